// The version of this build, as git describes the commit it was made from, or "unknown".
#pragma once

extern const char version_text[];
