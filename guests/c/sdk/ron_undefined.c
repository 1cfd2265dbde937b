// Says what was undefined behaviour, where a file is compiled with
//
//     -fsanitize=undefined -fsanitize-minimal-runtime -fno-sanitize-recover=all
//
// Wasm itself lets most of it pass: a write through NULL succeeds there. The compiler checks before
// each such operation and calls one of these; the place is in the crash's backtrace.
#ifdef __wasm__

#include "ron_host.h"

// The compiler calls some of them without `_abort`.
#define UNDEFINED(check, text)                                                                     \
    RON_NORETURN void __ubsan_handle_##check##_minimal(void);                                      \
    RON_NORETURN void __ubsan_handle_##check##_minimal_abort(void);                                \
    void __ubsan_handle_##check##_minimal(void) {                                                  \
        ron_host_panic(NULL, 0, ron_text("undefined behaviour: " text));                           \
    }                                                                                              \
    void __ubsan_handle_##check##_minimal_abort(void) { __ubsan_handle_##check##_minimal(); }

UNDEFINED(type_mismatch, "use of a pointer that is NULL or misaligned")
UNDEFINED(alignment_assumption, "a pointer is not aligned as was said")
UNDEFINED(pointer_overflow, "arithmetic on a pointer that is NULL, or beyond all memory")
UNDEFINED(nonnull_arg, "NULL passed to a function that takes none")
UNDEFINED(nonnull_return, "NULL returned by a function that returns none")
UNDEFINED(nullability_arg, "NULL passed to a function that takes none")
UNDEFINED(nullability_return, "NULL returned by a function that returns none")
UNDEFINED(out_of_bounds, "an index is outside of its array")
UNDEFINED(local_out_of_bounds, "an index is outside of its array")
UNDEFINED(vla_bound_not_positive, "an array without a positive length")
UNDEFINED(add_overflow, "an addition overflows")
UNDEFINED(sub_overflow, "a subtraction overflows")
UNDEFINED(mul_overflow, "a multiplication overflows")
UNDEFINED(negate_overflow, "a negation overflows")
UNDEFINED(divrem_overflow, "a division by zero, or one that overflows")
UNDEFINED(shift_out_of_bounds, "a shift by too many bits, or of a negative number")
UNDEFINED(float_cast_overflow, "a number is too large for the type that it is converted to")
UNDEFINED(implicit_conversion, "a number is too large for the type that it is converted to")
UNDEFINED(load_invalid_value, "a bool or an enum has a value that its type has not")
UNDEFINED(invalid_builtin, "a builtin function is given 0, which it does not take")
UNDEFINED(function_type_mismatch, "a function is called through a pointer of another type")
UNDEFINED(builtin_unreachable, "what was said to be unreachable was reached")
UNDEFINED(missing_return, "a function that returns a value ended without one")

#endif
