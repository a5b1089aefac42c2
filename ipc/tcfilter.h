/* How our traffic control filters are known: netd makes them, `delete` takes them away. */
#pragma once

#define TCFILTER_KIND	  "u32"
#define TCFILTER_PRIORITY 0x424b /* "BK" */
