// Formats as patterns: regular parts of the specifications that JSON Schema names.
#include "grammar/format_patterns.h"

typedef struct {
    const char *name, *pattern;
} Part;

#define OCTET "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
// From 0001 on: many readers of dates know no year 0.
#define YEAR "(000[1-9]|00[1-9]\\d|0[1-9]\\d\\d|[1-9]\\d{3})"
#define LEAP_YEAR "(\\d\\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
#define DATE                                                                                         \
    "(" YEAR                                                                                         \
    "-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-" \
    "8]))"                                                                                           \
    "|" LEAP_YEAR "-02-29)"
// A leap second is the last of a day in UTC; with an offset other than zero it is not taken.
#define TIME                                                                            \
    "(([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d+)?([Zz]|[-+]([01]\\d|2[0-3]):[0-5]\\d)" \
    "|23:59:60(\\.\\d+)?([Zz]|[-+]00:00))"
#define HOST_LABEL "[0-9A-Za-z]([-0-9A-Za-z]{0,61}[0-9A-Za-z])?"
#define HOSTNAME HOST_LABEL "(\\." HOST_LABEL ")*"
#define ATOM "[-!#$%&'*+/=?^_`{|}~0-9A-Za-z]+"
#define H16 "[0-9A-Fa-f]{1,4}"
#define IPV4 OCTET "(\\." OCTET "){3}"
#define LS32 "(" H16 ":" H16 "|" IPV4 ")"
#define IPV6                                                                                                \
    "((" H16 ":){6}" LS32 "|::(" H16 ":){5}" LS32 "|(" H16 ")?::(" H16 ":){4}" LS32 "|((" H16 ":){0,1}" H16 \
    ")?::(" H16 ":){3}" LS32 "|((" H16 ":){0,2}" H16 ")?::(" H16 ":){2}" LS32 "|((" H16 ":){0,3}" H16       \
    ")?::" H16 ":" LS32 "|((" H16 ":){0,4}" H16 ")?::" LS32 "|((" H16 ":){0,5}" H16 ")?::" H16 "|((" H16    \
    ":){0,6}" H16 ")?::)"

// RFC 3986, appendix A.
#define PCHAR "([-._~!$&'()*+,;=:@0-9A-Za-z]|%[0-9A-Fa-f]{2})"
#define PCHAR_NO_COLON "([-._~!$&'()*+,;=@0-9A-Za-z]|%[0-9A-Fa-f]{2})"
#define REG_NAME "([-._~!$&'()*+,;=0-9A-Za-z]|%[0-9A-Fa-f]{2})*"
#define IP_LITERAL "\\[(" IPV6 "|[vV][0-9A-Fa-f]+\\.[-._~!$&'()*+,;=:0-9A-Za-z]+)\\]"
#define AUTHORITY "(([-._~!$&'()*+,;=:0-9A-Za-z]|%[0-9A-Fa-f]{2})*@)?(" IP_LITERAL "|" REG_NAME ")(:\\d*)?"
#define PATH_ABEMPTY "(/" PCHAR "*)*"
#define PATH_ABSOLUTE "/(" PCHAR "+(/" PCHAR "*)*)?"
#define QUERY_FRAGMENT "(\\?(" PCHAR "|[/?])*)?(#(" PCHAR "|[/?])*)?"
#define URI                                                                                      \
    "[A-Za-z][-+.0-9A-Za-z]*:(//" AUTHORITY PATH_ABEMPTY "|" PATH_ABSOLUTE "|" PCHAR "+(/" PCHAR \
    "*)*|)" QUERY_FRAGMENT
#define RELATIVE \
    "(//" AUTHORITY PATH_ABEMPTY "|" PATH_ABSOLUTE "|" PCHAR_NO_COLON "+(/" PCHAR "*)*|)" QUERY_FRAGMENT
#define POINTER "(/([^~/]|~[01])*)*"

static const Part formats[] = {
    {"date", DATE}, // RFC 3339
    {"time", TIME},
    {"date-time", DATE "[Tt]" TIME},
    {"duration",
     "P(\\d+W|(\\d+Y(\\d+M(\\d+D)?)?|\\d+M(\\d+D)?|\\d+D)(T(\\d+H(\\d+M(\\d+S)?)?|\\d+M(\\d+S)?|\\d+S))?"
     "|T(\\d+H(\\d+M(\\d+S)?)?|\\d+M(\\d+S)?|\\d+S))"},
    {"uuid", "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"}, // RFC 9562
    {"ipv4", IPV4},
    {"ipv6", IPV6},         // RFC 4291
    {"hostname", HOSTNAME}, // RFC 1123
    {"email", "(" ATOM "(\\." ATOM ")*|\"([ !#-\\[\\]-~]|\\\\[ -~])*\")@(" HOSTNAME "|\\[(" IPV4 "|IPv6:" IPV6
              ")\\])"}, // RFC 5321
    {"uri", URI},
    {"uri-reference", URI "|" RELATIVE},
    {"json-pointer", POINTER}, // RFC 6901
    {"relative-json-pointer", "(0|[1-9]\\d*)(#|" POINTER ")"},
};

bool format_has_pattern(Str name, const char **pattern) {
    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        if (!str_eq(name, str_from_c(formats[i].name))) continue;
        *pattern = formats[i].pattern;
        return true;
    }
    return false;
}
