// A tree of JsonNodes as text again, for comparing trees that no text was parsed into.
#pragma once

#include "json/json_reader.h"
#include "json/json_writer.h"

void json_text_put(JsonWriter *w, const JsonNode *node);
