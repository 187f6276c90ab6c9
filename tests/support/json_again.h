// A value that was read, written again as the JSON writer spells it.
#pragma once

#include "json/json_reader.h"
#include "json/json_writer.h"

void json_write_again(JsonWriter *w, const JsonNode *node);
