// Between the files of flags.h: the tables, and what is asked of them.
#pragma once

#include "cli/flags.h"

typedef enum {
    FLAG_TYPE_SWITCH, // bool; no value
    FLAG_TYPE_U32,
    FLAG_TYPE_U64,
    FLAG_TYPE_F64,
    FLAG_TYPE_STR,
    FLAG_TYPE_STRS, // StrList: may be repeated
    FLAG_TYPE_PATH, // "file:" in front is taken off
    FLAG_TYPE_UUID,
    FLAG_TYPE_CHOICE, // uint32_t: the index in the value's name, split at '|'
    FLAG_TYPE_LIST,   // U32List: numbers separated by commas
} FlagType;

typedef enum {
    GROUP_MODEL,
    GROUP_SERVER,
    GROUP_LIMITS,
    GROUP_PROMPT,
    GROUP_SAMPLING,
    GROUP_OUTPUT,
    GROUP_TOKENS,
    GROUP_TARGET,
    GROUP_LOAD,
    GROUP_TEXTS,
    GROUP_MEASURE,
    GROUP_GENERAL,
    GROUP_COUNT
} FlagGroup;

typedef struct {
    const char *name;
    FlagType type;
    size_t offset; // in Options
    double least, most;
    const char *fallback; // "" for none
    const char *value_name;
    FlagGroup group;
    uint32_t commands; // a bit for each Command
    const char *help;
} Flag;

extern const Flag flag_rows[FLAG_COUNT];
extern const char *const flag_group_titles[GROUP_COUNT];

typedef struct {
    const char *name;
    const char *words; // beside flags
    const char *summary;
} CommandRow;

extern const CommandRow command_rows[CMD_COUNT];

enum { COMMAND_EXAMPLES = 2 };

// A letter for a flag. Of several names the first that the command has.
typedef struct {
    char letter;
    const char *names[2];
} ShortFlag;

enum { SHORT_FLAGS = 8 };
extern const ShortFlag short_flags[SHORT_FLAGS];

static inline bool flag_belongs(FlagId id, Command command) {
    return flag_rows[id].commands >> command & 1u;
}

// Whether a command has a use for a flag that it takes.
bool flag_has_effect(FlagId id, Command command);
// Two flags of different commands may share a name. FLAG_COUNT when there is none.
FlagId flag_find(Str name, Command command);
// What does here what another program's flag does there (its name without dashes); NULL for a name that is
// not known.
const char *flag_foreign_hint(Str name, Command command);
// The letter that stands for a flag; 0 for none.
char flag_letter(const Flag *f, Command command);
// The environment twin: WORKER_ORCD_SOME_FLAG.
void flag_put_variable(const Flag *f, StrBuf *out);
void command_put(StrBuf *out, Command command); // "worker-orcd COMMAND"
