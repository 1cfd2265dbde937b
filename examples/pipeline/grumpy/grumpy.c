// grumpy hears every reading, and has had enough at the seventh. The host starts it again,
// and delivers that reading once more, as the first of a new instance.

#include "ron.h"

ron_error *ron_start(void) {
    return ron_subscribe("readings.enriched");
}

ron_error *ron_on_message(const ron_message *message, ron_reply *reply) {
    static uint64_t heard;
    uint64_t patience;
    RON_TRY(ron_config_u64("patience", 7, &patience));

    heard += 1;
    if (heard >= patience) ron_panic("%llu readings are too many", (unsigned long long)heard);
    return RON_OK;
}
