/* The functions that a contract program offers: each takes the pointers of one kernel call. */
#ifndef RUNNER_H
#define RUNNER_H

extern void (*const contract_table[])(void *const *);

#endif
