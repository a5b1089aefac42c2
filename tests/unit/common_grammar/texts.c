/* Apart, because policy.c declares them as constants. */
extern char policy_written[4096];
extern char policy_included[4096];
extern const char policy_deep[];
extern const char policy_sanitizer[];

char policy_written[4096];
char policy_included[4096];
const char policy_deep[] = "include deep\n";
const char policy_sanitizer[] = "";
