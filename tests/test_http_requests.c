// What the HTTP server takes for a request and what it refuses: whole, byte by byte, in other pieces, and
// against a guard page. Every row holds all that the client sends on one connection.
#include "runner.h"

#include "fuzz_targets.h"
#include "guard.h"
#include "http_harness.h"
#include "os/os.h"

#include <stdio.h>
#include <stdlib.h>

// clang-format off
#define TEXT(literal) \
    { literal, sizeof(literal) - 1 }
// clang-format on
#define GET "GET / HTTP/1.1\r\nHost: h\r\n"
#define POST "POST /p HTTP/1.1\r\nHost: h\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
// The log's lines for these.
#define GOT "GET / Host=h"
#define POSTED "POST /p Host=h"
#define GOT_CHUNKED POSTED " Transfer-Encoding=chunked"

typedef struct {
    const char *name;
    Str sent;
    const char *requests; // the handler's log
    const char *statuses;
    bool closes;
} Row;

static const Row rows[] = {
    // Whole requests.
    {"get", TEXT(GET "\r\n"), GOT "\n", "200", false},
    {"two pipelined", TEXT(GET "\r\n" GET "\r\n"), GOT "\n" GOT "\n", "200 200", false},
    {"empty line before", TEXT("\r\n" GET "\r\n"), GOT "\n", "200", false},
    {"empty line between", TEXT(GET "\r\n\r\n" GET "\r\n"), GOT "\n" GOT "\n", "200 200", false},
    {"path and query", TEXT("GET /a/b%20c?x=1&y=%7B HTTP/1.1\r\nHost: h\r\n\r\n"),
     "GET /a/b%20c?x=1&y=%7B Host=h\n", "200", false},
    {"empty query", TEXT("GET /a? HTTP/1.1\r\nHost: h\r\n\r\n"), "GET /a Host=h\n", "200", false},
    {"two question marks", TEXT("GET /a?b?c HTTP/1.1\r\nHost: h\r\n\r\n"), "GET /a?b?c Host=h\n", "200",
     false},
    {"double slash", TEXT("GET //x HTTP/1.1\r\nHost: h\r\n\r\n"), "GET //x Host=h\n", "200", false},
    {"absolute form", TEXT("GET http://other:80/a?b HTTP/1.1\r\nHost: h\r\n\r\n"), "GET /a?b Host=h\n", "200",
     false},
    {"absolute form, https", TEXT("GET HTTPS://other/a HTTP/1.1\r\nHost: h\r\n\r\n"), "GET /a Host=h\n",
     "200", false},
    {"absolute form without path", TEXT("GET http://other HTTP/1.1\r\nHost: h\r\n\r\n"), "GET / Host=h\n",
     "200", false},
    {"absolute form, query only", TEXT("GET http://other?q HTTP/1.1\r\nHost: h\r\n\r\n"), "GET /?q Host=h\n",
     "200", false},
    {"asterisk", TEXT("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), "OPTIONS * Host=h\n", "200", false},
    {"head", TEXT("HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n"), "HEAD /x Host=h\n", "200", false},
    {"put, patch, delete",
     TEXT("PUT /x HTTP/1.1\r\nHost: h\r\n\r\nPATCH /x HTTP/1.1\r\nHost: h\r\n\r\nDELETE /x HTTP/1.1\r\nHost: "
          "h\r\n\r\n"),
     "PUT /x Host=h\nPATCH /x Host=h\nDELETE /x Host=h\n", "200 200 200", false},
    {"minor version 2 is 1.1", TEXT("GET / HTTP/1.2\r\nHost: h\r\n\r\n"), GOT "\n", "200", false},
    {"blanks around a value", TEXT(GET "X: \t a b \t\r\n\r\n"), GOT " X=a b\n", "200", false},
    {"no blank before a value", TEXT(GET "X:a\r\n\r\n"), GOT " X=a\n", "200", false},
    {"empty value", TEXT(GET "X:\r\nY: \r\n\r\n"), GOT " X= Y=\n", "200", false},
    {"colon in a value", TEXT(GET "X: a:b\r\n\r\n"), GOT " X=a:b\n", "200", false},
    {"bytes above 7F in a value", TEXT(GET "X: \xC3\xA9\xFF\r\n\r\n"), GOT " X=\xC3\xA9\xFF\n", "200", false},
    {"every name character", TEXT(GET "!#$%&'*+-.^_`|~09azAZ: 1\r\n\r\n"), GOT " !#$%&'*+-.^_`|~09azAZ=1\n",
     "200", false},
    {"host with port", TEXT("GET / HTTP/1.1\r\nHost: example.com:8080\r\n\r\n"),
     "GET / Host=example.com:8080\n", "200", false},
    {"host IPv6", TEXT("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"), "GET / Host=[::1]:8080\n", "200",
     false},
    {"host empty", TEXT("GET / HTTP/1.1\r\nHost:\r\n\r\n"), "GET / Host=\n", "200", false},
    {"host in capitals", TEXT("GET / HTTP/1.1\r\nHOST: h\r\n\r\n"), "GET / HOST=h\n", "200", false},
    {"body", TEXT(POST "Content-Length: 5\r\n\r\nhello"), POSTED " Content-Length=5 [hello]\n", "200", false},
    {"body of none", TEXT(POST "Content-Length: 0\r\n\r\n" GET "\r\n"), POSTED " Content-Length=0\n" GOT "\n",
     "200 200", false},
    {"length with zeros", TEXT(POST "Content-Length: 0005\r\n\r\nhello"),
     POSTED " Content-Length=0005 [hello]\n", "200", false},
    {"body with GET", TEXT(GET "Content-Length: 2\r\n\r\nhi" GET "\r\n"),
     GOT " Content-Length=2 [hi]\n" GOT "\n", "200 200", false},
    {"body that looks like a request", TEXT(POST "Content-Length: 27\r\n\r\n" GET "\r\n" GET "\r\n"),
     POSTED " Content-Length=27 [" GET "\r\n]\n" GOT "\n", "200 200", false},
    {"post without body", TEXT(POST "\r\n" GET "\r\n"), POSTED "\n" GOT "\n", "200 200", false},
    {"part of a head", TEXT(GET), "", "", false},
    {"part of a body", TEXT(POST "Content-Length: 5\r\n\r\nhell"), "", "", false},
    // Chunked bodies.
    {"chunked", TEXT(CHUNKED "5\r\nhello\r\n0\r\n\r\n"), GOT_CHUNKED " [hello]\n", "200", false},
    {"chunked, none", TEXT(CHUNKED "0\r\n\r\n" GET "\r\n"), GOT_CHUNKED "\n" GOT "\n", "200 200", false},
    {"chunks", TEXT(CHUNKED "1\r\na\r\n2\r\nbc\r\nA\r\n0123456789\r\n0\r\n\r\n"),
     GOT_CHUNKED " [abc0123456789]\n", "200", false},
    {"chunk size in both cases", TEXT(CHUNKED "a\r\n0123456789\r\nB\r\nabcdefghijk\r\n0\r\n\r\n"),
     GOT_CHUNKED " [0123456789abcdefghijk]\n", "200", false},
    {"chunk size with zeros", TEXT(CHUNKED "0005\r\nhello\r\n000\r\n\r\n"), GOT_CHUNKED " [hello]\n", "200",
     false},
    {"chunk extension", TEXT(CHUNKED "5;a=b;c=\"d e\"\r\nhello\r\n0;x\r\n\r\n"), GOT_CHUNKED " [hello]\n",
     "200", false},
    {"blank before a chunk extension", TEXT(CHUNKED "5 \t;a\r\nhello\r\n0\r\n\r\n"), GOT_CHUNKED " [hello]\n",
     "200", false},
    {"trailers", TEXT(CHUNKED "5\r\nhello\r\n0\r\nX: 1\r\nContent-Length: 7\r\n\r\n" GET "\r\n"),
     GOT_CHUNKED " [hello]\n" GOT "\n", "200 200", false},
    {"chunk data of line ends", TEXT(CHUNKED "4\r\n\r\n\r\n\r\n0\r\n\r\n"), GOT_CHUNKED " [\r\n\r\n]\n",
     "200", false},
    {"chunked in capitals", TEXT(POST "Transfer-Encoding: CHUNKED\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
     POSTED " Transfer-Encoding=CHUNKED [hi]\n", "200", false},
    {"chunked in a list of one", TEXT(POST "Transfer-Encoding: , chunked ,\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
     POSTED " Transfer-Encoding=, chunked , [hi]\n", "200", false},
    {"chunked pipelined", TEXT(CHUNKED "1\r\na\r\n0\r\n\r\n" CHUNKED "1\r\nb\r\n0\r\n\r\n"),
     GOT_CHUNKED " [a]\n" GOT_CHUNKED " [b]\n", "200 200", false},
    // The connection's fate.
    {"close", TEXT(GET "Connection: close\r\n\r\n" GET "\r\n"), GOT " Connection=close\n", "200", true},
    {"close in a list", TEXT(GET "Connection: x, Close\r\n\r\n"), GOT " Connection=x, Close\n", "200", true},
    {"close in a second header", TEXT(GET "Connection: x\r\nConnection: close\r\n\r\n"),
     GOT " Connection=x Connection=close\n", "200", true},
    {"closer is not close", TEXT(GET "Connection: closer\r\n\r\n"), GOT " Connection=closer\n", "200", false},
    {"HTTP/1.0", TEXT("GET / HTTP/1.0\r\n\r\n"), "GET /\n", "200", true},
    {"HTTP/1.0 keep-alive", TEXT("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"),
     "GET / Connection=Keep-Alive\n", "200", false},
    {"HTTP/1.0 both", TEXT("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"),
     "GET / Connection=keep-alive, close\n", "200", true},
    {"HTTP/1.0 with body", TEXT("POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi"),
     "POST / Content-Length=2 [hi]\n", "200", true},
    {"HTTP/1.0 ignores Expect",
     TEXT("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"),
     "POST / Expect=100-continue Content-Length=2 [hi]\n", "200", true},
    {"continue without body", TEXT(GET "Expect: 100-continue\r\n\r\n"), GOT " Expect=100-continue\n", "200",
     false},
    // Start lines that are refused.
    {"two empty lines before", TEXT("\r\n\r\n" GET "\r\n"), "", "400", true},
    {"blank before", TEXT(" " GET "\r\n"), "", "400", true},
    {"no target", TEXT("GET\r\n\r\n"), "", "400", true},
    {"HTTP/0.9", TEXT("GET /\r\n\r\n"), "", "400", true},
    {"empty target", TEXT("GET  HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"two blanks before the target", TEXT("GET  / HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"two blanks before the version", TEXT("GET /  HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"blank after the version", TEXT("GET / HTTP/1.1 \r\nHost: h\r\n\r\n"), "", "400", true},
    {"tab for a blank", TEXT("GET\t/\tHTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"tab in the target", TEXT("GET /a\tb HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"blank in the target", TEXT("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"no version number", TEXT("GET / HTTP/\r\n\r\n"), "", "400", true},
    {"version of one part", TEXT("GET / HTTP/1\r\n\r\n"), "", "400", true},
    {"version in small letters", TEXT("GET / http/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"version with two digits", TEXT("GET / HTTP/1.10\r\nHost: h\r\n\r\n"), "", "400", true},
    {"version with letters", TEXT("GET / HTTP/1.x\r\nHost: h\r\n\r\n"), "", "400", true},
    {"other protocol", TEXT("GET / HTTQ/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"HTTP/2.0", TEXT("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), "", "505", true},
    {"HTTP/2 preface", TEXT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "", "505", true},
    {"HTTP/0.9 by name", TEXT("GET / HTTP/0.9\r\n\r\n"), "", "505", true},
    {"unknown method", TEXT("BREW / HTTP/1.1\r\nHost: h\r\n\r\n"), "", "501", true},
    {"method in small letters", TEXT("get / HTTP/1.1\r\nHost: h\r\n\r\n"), "", "501", true},
    {"connect", TEXT("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n"), "", "501", true},
    {"method with a bad character", TEXT("G@T / HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"method above 7F", TEXT("G\xC3\x89T / HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"relative target", TEXT("GET x HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"asterisk with GET", TEXT("GET * HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"other scheme", TEXT("GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"absolute form without host", TEXT("GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"absolute form, port only", TEXT("GET http://:80/x HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"absolute form with user", TEXT("GET http://u@h/x HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"fragment", TEXT("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"raw byte above 7F in the target", TEXT("GET /\xC3\xA9 HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"DEL in the target", TEXT("GET /\x7F HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"quote in the target", TEXT("GET /\"x\" HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"cut percent escape", TEXT("GET /%4 HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"percent at the end", TEXT("GET /% HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"percent escape of letters", TEXT("GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"escaped zero", TEXT("GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"escaped line break", TEXT("GET /%0d%0a HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"escaped DEL", TEXT("GET /%7F HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"zero byte", TEXT("GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n"), "", "400", true},
    {"TLS", TEXT("\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03"), "", "400", true},
    {"newline alone", TEXT("GET / HTTP/1.1\nHost: h\n\n"), "", "400", true},
    {"newline alone at once", TEXT("\n"), "", "400", true},
    {"carriage return alone", TEXT("GET / HTTP/1.1\rHost: h\r\r"), "", "400", true},
    {"two carriage returns", TEXT("GET / HTTP/1.1\r\r\nHost: h\r\n\r\n"), "", "400", true},
    // Header lines that are refused.
    {"newline alone in a header", TEXT(GET "X: 1\n\r\n"), "", "400", true},
    {"newline alone at the end", TEXT(GET "\n"), "", "400", true},
    {"carriage return in a value", TEXT(GET "X: a\rb\r\n\r\n"), "", "400", true},
    {"zero byte in a value", TEXT(GET "X: a\0b\r\n\r\n"), "", "400", true},
    {"zero byte in a name", TEXT(GET "X\0: a\r\n\r\n"), "", "400", true},
    {"control in a value", TEXT(GET "X: \x01\r\n\r\n"), "", "400", true},
    {"DEL in a value", TEXT(GET "X: \x7F\r\n\r\n"), "", "400", true},
    {"vertical tab before a coding",
     TEXT(POST "Transfer-Encoding: \x0B"
               "chunked\r\n\r\n0\r\n\r\n"),
     "", "400", true},
    {"no colon", TEXT(GET "X\r\n\r\n"), "", "400", true},
    {"no name", TEXT(GET ": x\r\n\r\n"), "", "400", true},
    {"blank before the colon", TEXT(GET "X : 1\r\n\r\n"), "", "400", true},
    {"tab before the colon", TEXT(GET "X\t: 1\r\n\r\n"), "", "400", true},
    {"blank before the colon of a length", TEXT(POST "Content-Length : 5\r\n\r\nhello"), "", "400", true},
    {"folded line", TEXT(GET "X: 1\r\n 2\r\n\r\n"), "", "400", true},
    {"folded line with tab", TEXT(GET "X: 1\r\n\t2\r\n\r\n"), "", "400", true},
    {"blank before the first header", TEXT("GET / HTTP/1.1\r\n Host: h\r\n\r\n"), "", "400", true},
    {"line of blanks", TEXT(GET " \r\n\r\n"), "", "400", true},
    {"brackets in a name", TEXT(GET "X[1]: 1\r\n\r\n"), "", "400", true},
    {"name above 7F", TEXT(GET "\xC3\xA9: 1\r\n\r\n"), "", "400", true},
    {"no host", TEXT("GET / HTTP/1.1\r\n\r\n"), "", "400", true},
    {"no host in absolute form", TEXT("GET http://h/ HTTP/1.1\r\n\r\n"), "", "400", true},
    {"two hosts", TEXT(GET "Host: h\r\n\r\n"), "", "400", true},
    {"two hosts in HTTP/1.0", TEXT("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), "", "400", true},
    {"list of hosts", TEXT("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), "", "400", true},
    {"host with path", TEXT("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), "", "400", true},
    {"host with user", TEXT("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n"), "", "400", true},
    {"host with a bad port", TEXT("GET / HTTP/1.1\r\nHost: h:x\r\n\r\n"), "", "400", true},
    {"host with two ports", TEXT("GET / HTTP/1.1\r\nHost: h:1:2\r\n\r\n"), "", "400", true},
    {"host with an open bracket", TEXT("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), "", "400", true},
    {"body as it is", TEXT(POST "Content-Encoding: Identity\r\nContent-Length: 2\r\n\r\nhi"),
     POSTED " Content-Encoding=Identity Content-Length=2 [hi]\n", "200", false},
    {"compressed body", TEXT(POST "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi"), "", "415", true},
    {"unknown expectation", TEXT(GET "Expect: tea\r\n\r\n"), "", "417", true},
    // Framing that two servers could read in two ways.
    {"length and chunked", TEXT(POST "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX"), "",
     "400", true},
    {"chunked and length", TEXT(POST "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX"), "",
     "400", true},
    {"two equal lengths", TEXT(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), "", "400", true},
    {"two lengths", TEXT(POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), "", "400", true},
    {"list of lengths", TEXT(POST "Content-Length: 5, 5\r\n\r\nhello"), "", "400", true},
    {"length with plus", TEXT(POST "Content-Length: +5\r\n\r\nhello"), "", "400", true},
    {"length with minus", TEXT(POST "Content-Length: -5\r\n\r\nhello"), "", "400", true},
    {"length with blank", TEXT(POST "Content-Length: 5 5\r\n\r\nhello"), "", "400", true},
    {"length in hexadecimal", TEXT(POST "Content-Length: 0x5\r\n\r\nhello"), "", "400", true},
    {"length with letters", TEXT(POST "Content-Length: 5a\r\n\r\nhello"), "", "400", true},
    {"length with point", TEXT(POST "Content-Length: 5.0\r\n\r\nhello"), "", "400", true},
    {"length with underscore", TEXT(POST "Content-Length: 1_0\r\n\r\n0123456789"), "", "400", true},
    {"empty length", TEXT(POST "Content-Length:\r\n\r\n"), "", "400", true},
    {"length above the limit", TEXT(POST "Content-Length: 10485761\r\n\r\n"), "", "413", true},
    {"length of 2^31", TEXT(POST "Content-Length: 2147483648\r\n\r\n"), "", "413", true},
    {"length of 2^32 + 5", TEXT(POST "Content-Length: 4294967301\r\n\r\nhello"), "", "413", true},
    {"length of 2^64", TEXT(POST "Content-Length: 18446744073709551616\r\n\r\n"), "", "413", true},
    {"length of 2^64 + 5", TEXT(POST "Content-Length: 18446744073709551621\r\n\r\nhello"), "", "413", true},
    {"chunked twice", TEXT(POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), "", "400", true},
    {"chunked in two headers",
     TEXT(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "", "400", true},
    {"chunked not last", TEXT(POST "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"), "", "400", true},
    {"gzip and chunked", TEXT(POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), "", "501", true},
    {"gzip", TEXT(POST "Transfer-Encoding: gzip\r\n\r\n"), "", "501", true},
    {"identity", TEXT(POST "Transfer-Encoding: identity\r\n\r\n"), "", "501", true},
    {"almost chunked", TEXT(POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), "", "501", true},
    {"chunked with parameter", TEXT(POST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"), "", "501", true},
    {"quoted chunked", TEXT(POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"), "", "501", true},
    {"empty coding", TEXT(POST "Transfer-Encoding:\r\n\r\n"), "", "400", true},
    {"coding of commas", TEXT(POST "Transfer-Encoding: ,,\r\n\r\n"), "", "400", true},
    {"empty coding and length", TEXT(POST "Transfer-Encoding:\r\nContent-Length: 2\r\n\r\nhi"), "", "400",
     true},
    {"HTTP/1.0 chunked", TEXT("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "", "400",
     true},
    // Chunked bodies that are refused.
    {"no chunk size", TEXT(CHUNKED "\r\nhello\r\n"), "", "400", true},
    {"chunk size with 0x", TEXT(CHUNKED "0x5\r\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"chunk size with plus", TEXT(CHUNKED "+5\r\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"chunk size with minus", TEXT(CHUNKED "-5\r\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"blank before a chunk size", TEXT(CHUNKED " 5\r\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"blank after a chunk size", TEXT(CHUNKED "5 \r\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"chunk size of other letters", TEXT(CHUNKED "5g\r\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"chunk size of 17 digits", TEXT(CHUNKED "00000000000000005\r\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"chunk size above 2^64", TEXT(CHUNKED "10000000000000005\r\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"chunk size of 2^64 - 1", TEXT(CHUNKED "FFFFFFFFFFFFFFFF\r\nhello\r\n"), "", "413", true},
    {"chunk size above the limit", TEXT(CHUNKED "A00001\r\n"), "", "413", true},
    {"second chunk above the limit", TEXT(CHUNKED "1\r\na\r\nA00000\r\n"), "", "413", true},
    {"newline alone after a chunk size", TEXT(CHUNKED "5\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"carriage return alone after a chunk size", TEXT(CHUNKED "5\rhello\r\n0\r\n\r\n"), "", "400", true},
    {"chunk longer than it says", TEXT(CHUNKED "4\r\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"chunk shorter than it says", TEXT(CHUNKED "6\r\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"newline alone after chunk data", TEXT(CHUNKED "5\r\nhello\n0\r\n\r\n"), "", "400", true},
    {"carriage return alone after chunk data", TEXT(CHUNKED "5\r\nhello\r0\r\n\r\n"), "", "400", true},
    {"carriage return and more after chunk data", TEXT(CHUNKED "5\r\nhello\rX0\r\n\r\n"), "", "400", true},
    {"newline in a chunk extension", TEXT(CHUNKED "5;a\nb\r\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"zero byte in a chunk extension", TEXT(CHUNKED "5;a\0\r\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"carriage return in a chunk extension", TEXT(CHUNKED "5;a\rb\r\nhello\r\n0\r\n\r\n"), "", "400", true},
    {"trailer without colon", TEXT(CHUNKED "0\r\nX\r\n\r\n"), "", "400", true},
    {"trailer without name", TEXT(CHUNKED "0\r\n: x\r\n\r\n"), "", "400", true},
    {"folded trailer", TEXT(CHUNKED "0\r\nX: 1\r\n 2\r\n\r\n"), "", "400", true},
    {"blank before a trailer's colon", TEXT(CHUNKED "0\r\nX : 1\r\n\r\n"), "", "400", true},
    {"newline alone after a trailer", TEXT(CHUNKED "0\r\nX: 1\n\r\n"), "", "400", true},
    {"newline alone at the end of a body", TEXT(CHUNKED "0\r\n\n"), "", "400", true},
    // What was good before a bad request stays answered; what comes after it is not looked at.
    {"good and bad", TEXT(GET "\r\nGET / HTTP/1.1\r\n\r\n" GET "\r\n"), GOT "\n", "200 400", true},
};

static void check_row(Harness *h, const Row *row, size_t step) {
    harness_reopen(h);
    harness_feed(h, row->sent, step);
    TEST_CASE_LABEL("%s, %zu bytes at a time", row->name, step);
    CHECK_STR_EQ(row->requests, h->log_text);
    CHECK_STR_EQ(row->statuses, harness_statuses(h));
    CHECK_INT_EQ(row->closes, h->connection.state == HTTP_CONNECTION_LINGERING);
    CHECK_INT_EQ(0, h->closed);
}

TEST(http_requests_in_pieces_of_any_size) {
    static char whole[HARNESS_TEXT_BYTES];
    Harness *h = harness_open(NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        static const size_t steps[] = {HTTP_READ_BYTES, 1, 2, 3, 7, 31};
        for (size_t s = 0; s < COUNT_OF(steps); s++) {
            check_row(h, &rows[i], steps[s]);
            // Not only the status: every byte of every answer.
            if (s == 0) memcpy(whole, h->sent_text, h->sent.len + 1);
            CHECK_STR_EQ(whole, h->sent_text);
        }
    }
}

// The byte at fault is named where there is one.
TEST(http_requests_refused_with_a_place) {
    static const struct {
        const char *request, *message;
    } places[] = {
        {"GET / HTTP/1.1\r\nHost: h\r\nA B: c\r\n\r\n", "followed by ':' (byte 26)\""},
        {GET "Content-Length: 1x\r\n\r\n", "not a decimal number (byte 41)\""},
        {"GET / HTTP/1.1\r\n\r\n", "the Host header is missing\""},
        {POST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
         "both Content-Length and Transfer-Encoding\""},
        {GET "Transfer-Encoding: \r\n\r\n", "Transfer-Encoding is empty\""},
        {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "in an HTTP/1.0 request\""},
    };
    Harness *h = harness_open(NULL);
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        TEST_CASE_LABEL("%s", places[i].request);
        harness_reopen(h);
        harness_feed(h, str_from_c(places[i].request), HTTP_READ_BYTES);
        CHECK_STR_EQ("400", harness_statuses(h));
        CHECK(strstr(h->sent_text, places[i].message) != NULL);
    }
}

// A refusal is JSON in the shape of the API, closes the connection, and says so.
TEST(http_requests_refused_as_json) {
    Harness *h = harness_open(NULL);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (strlen(rows[i].statuses) != 3 || str_eq(str_from_c(rows[i].statuses), STR("200"))) continue;
        check_row(h, &rows[i], HTTP_READ_BYTES);
        CHECK(strstr(h->sent_text, "\r\nConnection: close\r\n"));
        CHECK(strstr(h->sent_text, "\r\nContent-Type: application/json\r\n"));
        const char *body = strstr(h->sent_text, "\r\n\r\n");
        REQUIRE(body != NULL);
        CHECK(strncmp(body + 4, "{\"error\":{\"code\":\"INVALID_REQUEST\",\"message\":\"", 46) == 0);
        CHECK(str_ends_with(strbuf_str(&h->sent), STR("\",\"retriable\":false}}")));
        size_t announced = 0;
        const char *length = strstr(h->sent_text, "Content-Length: ");
        REQUIRE(length != NULL && sscanf(length + 16, "%zu", &announced) == 1);
        CHECK_INT_EQ(strlen(body + 4), announced);
    }
}

// The parser itself, with an inaccessible page right behind every prefix of every row.
TEST(http_parser_stays_within_bounds) {
    GuardedMemory guard = guard_allocate(4096);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        Str sent = rows[i].sent;
        TEST_CASE_LABEL("%s", rows[i].name);
        HttpParse whole = HTTP_PARSE_INCOMPLETE;
        HttpFault whole_fault = {0};
        for (size_t length = sent.len;; length--) {
            static HttpRequest request;
            request = (HttpRequest){0};
            HttpHeadParser parser = {0};
            HttpFault fault = {0};
            Str pressed = guard_press(&guard, str_slice(sent, 0, length));
            HttpParse parse = http_parse_head(&parser, pressed, &request, &fault);
            if (length == sent.len) {
                whole = parse;
                whole_fault = fault;
            }
            // A shorter piece knows less, but never anything else.
            if (parse != HTTP_PARSE_INCOMPLETE) CHECK_INT_EQ(whole, parse);
            if (parse == HTTP_PARSE_BAD) CHECK_INT_EQ(whole_fault.position, fault.position);
            if (length == 0) break;
        }
    }
}

// ---- limits ----

// What a request of this text is answered with.
static const char *status_of(Harness *h, Str text, size_t step) {
    harness_reopen(h);
    harness_feed(h, text, step);
    return harness_statuses(h);
}

// `before`, then `count` copies of `fill`, then `after`.
static Str build(const char *before, const char *fill, size_t count, const char *after) {
    enum { BYTES = HTTP_BODY_BYTES_MAX + HTTP_HEADER_BYTES_MAX * 2 };
    static char *memory;
    if (!memory) memory = os_reserve(BYTES);
    REQUIRE(memory != NULL);
    StrBuf out = strbuf_from_memory(memory, BYTES);
    strbuf_put(&out, str_from_c(before));
    for (size_t i = 0; i < count; i++)
        strbuf_put(&out, str_from_c(fill));
    strbuf_put(&out, str_from_c(after));
    if (out.truncated) abort();
    return strbuf_str(&out);
}

TEST(http_limits_the_header) {
    Harness *h = harness_open(NULL);
    static const size_t steps[] = {1, 1000, HTTP_READ_BYTES};
    for (size_t s = 0; s < COUNT_OF(steps); s++) {
        size_t step = steps[s], around = strlen(GET "X: \r\n\r\n");
        TEST_CASE_LABEL("%zu bytes at a time", step);
        Str exact = build(GET "X: ", "a", HTTP_HEADER_BYTES_MAX - around, "\r\n\r\n");
        CHECK_INT_EQ(HTTP_HEADER_BYTES_MAX, exact.len);
        CHECK_STR_EQ("200", status_of(h, exact, step));
        CHECK_STR_EQ(
            "431", status_of(h, build(GET "X: ", "a", HTTP_HEADER_BYTES_MAX - around + 1, "\r\n\r\n"), step));
        CHECK_STR_EQ("431", status_of(h, build(GET "X: ", "a", HTTP_HEADER_BYTES_MAX, ""), step));
        CHECK_STR_EQ("200", status_of(h, build(GET, "X: 1\r\n", HTTP_HEADERS_MAX - 1, "\r\n"), step));
        CHECK_STR_EQ("431", status_of(h, build(GET, "X: 1\r\n", HTTP_HEADERS_MAX, "\r\n"), step));
        const char *version = " HTTP/1.1\r\nHost: h\r\n\r\n";
        CHECK_STR_EQ("200", status_of(h, build("GET /", "a", HTTP_TARGET_BYTES_MAX - 1, version), step));
        CHECK_STR_EQ("414", status_of(h, build("GET /", "a", HTTP_TARGET_BYTES_MAX, version), step));
        CHECK_STR_EQ("414", status_of(h, build("GET /", "a", 2 * HTTP_TARGET_BYTES_MAX, version), step));
        CHECK_STR_EQ("501", status_of(h, build("GET", "A", 2 * HTTP_TARGET_BYTES_MAX, version), step));
        CHECK_STR_EQ("501", status_of(h, build("GET", "A", 100, " / HTTP/1.1\r\nHost: h\r\n\r\n"), step));
    }
}

TEST(http_limits_the_body) {
    Harness *h = harness_open(NULL);
    Str exact = build(POST "Content-Length: 10485760\r\n\r\n", "a", HTTP_BODY_BYTES_MAX, "");
    CHECK_STR_EQ("200", status_of(h, exact, HTTP_READ_BYTES));
    CHECK_STR_EQ("200", status_of(h, exact, 1000));
    CHECK_INT_EQ(0, h->shared.large_bodies);
    CHECK_STR_EQ("200",
                 status_of(h, build(CHUNKED "A00000\r\n", "a", HTTP_BODY_BYTES_MAX, "\r\n0\r\n\r\n"), 4096));
    CHECK_INT_EQ(0, h->shared.large_bodies);
    CHECK_STR_EQ(
        "413",
        status_of(h, build(CHUNKED "A00000\r\n", "a", HTTP_BODY_BYTES_MAX, "\r\n1\r\na\r\n0\r\n\r\n"), 4096));
    CHECK_INT_EQ(0, h->shared.large_bodies);
    // Chunks of one byte: six times as many coded bytes as there is room for.
    Str small = build(CHUNKED, "1\r\na\r\n", 1000 * 1000, "0\r\n\r\n");
    CHECK_STR_EQ("200", status_of(h, small, HTTP_READ_BYTES));
    CHECK_STR_EQ("200", status_of(h, small, 7));
    CHECK_STR_EQ(
        "431",
        status_of(h, build(CHUNKED "1;", "a", HTTP_CHUNK_IGNORED_BYTES_MAX + 1, "\r\na\r\n0\r\n\r\n"), 50));
    CHECK_STR_EQ("431",
                 status_of(h, build(CHUNKED "0\r\n", "X: 1\r\n", HTTP_CHUNK_IGNORED_BYTES_MAX, "\r\n"), 50));
}

TEST(http_requests_fuzz_corpus) {
    CHECK(fuzz_replay("http", fuzz_http, 200) >= 50);
}

TEST(http_fuzz_connection_corpus) {
    CHECK(fuzz_replay("connection", fuzz_connection, test_is_sanitized() ? 10 : 30) >= 50);
}

// FUZZ_SEED=n repeats a run, whose seed a failed one shows.
TEST(http_fuzz_connection_random) {
    uint8_t input[400];
    uint64_t seed;
    const char *given = getenv("FUZZ_SEED");
    os_random(&seed, sizeof seed);
    seed = given ? strtoull(given, NULL, 10) : seed % 1000000000;
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    FuzzDice dice = {.key = seed};
    uint32_t runs = test_is_sanitized() ? 1000 : 10000, done = 0;
    for (; done < runs; done++) {
        for (size_t i = 0; i < sizeof input; i++)
            input[i] = (uint8_t)fuzz_roll(&dice, 256);
        fuzz_connection(input, sizeof input);
    }
    CHECK_INT_EQ(runs, done); // a broken promise ends the process
}
