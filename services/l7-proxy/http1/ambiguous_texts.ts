/**
 * Requests with what functions on text drop or fold, and no server does: a byte order mark, a blank that does not break, the sign of Kelvin (whose
 * small letter is k), digits of another script. Characters are bytes.
 * @module
 */
import { type AmbiguousRequest, SMUGGLED } from "./ambiguous_requests.ts";

const request = (method: string, fields: string, body: string) =>
  `${method} /public HTTP/1.1\r\n${fields}\r\n${body}${SMUGGLED}`;
const post = (fields: string, body: string) => request("POST", `Host: a.example\r\n${fields}`, body);
const each = <T>(values: readonly T[], make: (value: T) => AmbiguousRequest) => values.map(make);
const shown = (text: string) => JSON.stringify(text).slice(1, -1);

/** All of them. */
export const AMBIGUOUS_TEXTS: readonly AmbiguousRequest[] = [
  ...each(["\u00ef\u00bb\u00bf", "\u00c2\u00a0"], (mark): AmbiguousRequest => [
    `${shown(mark)} before a Host`,
    request("GET", `Host: ${mark}a.example\r\n`, ""),
    "bad-host",
  ]),
  ...each(
    [
      "\u00ef\u00bb\u00bfchunked",
      "\u00c2\u00a0chunked",
      "chunked\u00c2\u00a0",
      "gzip,\u00c2\u00a0chunked",
      "chun\u00e2\u0084\u00aaed",
    ],
    (coding): AmbiguousRequest => [
      `coding ${shown(coding)}`,
      post(`Transfer-Encoding: ${coding}\r\n`, "0\r\n\r\n"),
      "bad-coding",
    ],
  ),
  ...each(
    ["\u00ef\u00bb\u00bf5", "\u00c2\u00a05", "5\u00c2\u00a0", "\u00d9\u00a5"],
    (length): AmbiguousRequest => [
      `length ${shown(length)}`,
      post(`Content-Length: ${length}\r\n`, "abcde"),
      "bad-length",
    ],
  ),
];
