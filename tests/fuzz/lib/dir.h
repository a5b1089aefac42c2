/* A directory of a harness's own, made once; it goes when the program ends. */
#pragma once

/* Its path, without links; made when it is first asked for. */
const char *own_dir(void);

/* Files in it, by their paths relative to it. */
void own_mkdir(const char *name);
void own_file(const char *name, const char *text);
void own_fifo(const char *name);
void own_link(const char *name, const char *target);

/* All that is in a directory of it goes; the directory stays. */
void own_clear(const char *name);

/* An O_PATH fd that stays out of the role's way, in every run. Name "": the directory itself. */
int own_open(const char *name, int flags);
