import { deepEqual, equal, throws } from "node:assert/strict";
import { formatJoinToken, hostPort, parseHostPort, parseJoinToken } from "./join_token.ts";

const TOKEN = {
  role: "node" as const,
  addresses: ["10.0.0.1:7440", "[fd00::1]:7440"],
  authorityHash: "ab".repeat(32),
  secret: "k3.s-_9",
};

Deno.test("parseJoinToken() reads what formatJoinToken() writes, and says what is wrong with anything else", () => {
  const text = formatJoinToken(TOKEN);
  deepEqual(parseJoinToken(` ${text}\n`), TOKEN);
  const bad = (more: object) => formatJoinToken({ ...TOKEN, ...more });
  for (
    const wrong of [
      "",
      "weir-join.",
      text.slice(0, -20),
      text.slice(5),
      "weir-join." + btoa("{}"),
      "weir-join." + btoa("null"),
      bad({ role: "admin" }),
      bad({ addresses: [] }),
      bad({ addresses: ["10.0.0.1:99999"] }),
      bad({ addresses: ["a/b"] }),
      bad({ authorityHash: "ab" }),
      bad({ secret: "no dot" }),
      text + "A".repeat(5000),
    ]
  ) throws(() => parseJoinToken(wrong), { code: "TOKEN_INVALID" }, wrong.slice(0, 40));
});

Deno.test("parseHostPort() takes addresses of both families and names", () => {
  const cases: [string, string | undefined][] = [
    ["10.0.0.1", "10.0.0.1:7440"],
    ["10.0.0.1:9", "10.0.0.1:9"],
    ["[fd00::1]:9", "[fd00::1]:9"],
    ["fd00::1", "[fd00::1]:7440"],
    ["plane.example:1", "plane.example:1"],
    ["", undefined],
    [":9", undefined],
    ["a b", undefined],
    ["10.0.0.1:0", undefined],
    ["10.0.0.1:x", undefined],
  ];
  for (const [text, expected] of cases) {
    const found = parseHostPort(text);
    equal(found && hostPort(found.hostname, found.port), expected, text);
  }
});
