"""Where a sandbox's first program finds its files. Apart from Job: the keeper loads no typing."""

# Numbers that the sandbox's first program finds its files at. All are above what a keeper has open, so
# that moving one never overwrites another.
LISTEN_FD = 40
ARGS_FD = 41
STATUS_FD = 42
SECCOMP_FD = 43
FIRST_DATA_FD = 44
