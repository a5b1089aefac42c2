#include "tests/lib/test.h"
TEST(x){}
