#include "textflag.h"

TEXT ·Trap(SB), NOSPLIT, $0-0
	UNDEF
	RET
