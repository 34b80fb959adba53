import assert from "node:assert/strict";
import { readEventsQuery, readFlowsQuery } from "./query_parameters.ts";
import { readTime } from "./query_time.ts";

const NOW_MS = 1_000_000_000;
const ask = (query: string) => readFlowsQuery(new URLSearchParams(query), NOW_MS);

Deno.test("readTime() takes what people and Hubble's clients write, and nothing else", () => {
  const cases: [text: string, seconds: number, nanos?: number][] = [
    ["30s", 999_970],
    ["1h30m", 994_600],
    ["1.5h", 994_600],
    ["2d", 827_200],
    ["1500ms", 999_998, 500_000_000],
    ["1970-01-02", 86_400],
    ["1970-01-01T01Z", 3600],
    ["1970-01-01T01:30+01:00", 1800],
    ["1970-01-01T00:00:01.123456789Z", 1, 123_456_789],
    ["Thu, 01 Jan 1970 00:01:00 +0000", 60],
  ];
  for (const [text, seconds, nanos = 0] of cases) {
    assert.deepEqual(readTime("since", text, NOW_MS), { seconds, nanos }, text);
  }
  const wrong = [
    "",
    "yesterday",
    "5",
    "-5s",
    "1970-01-01T01:30",
    "1970-02-31T00:00Zx",
    "9".repeat(400) + "h",
    "1h30",
  ];
  for (const text of wrong) {
    assert.throws(() => readTime("since", text, NOW_MS), { code: "QUERY_INVALID" }, text);
  }
});

Deno.test("readFlowsQuery() takes raw filters beside the others, one after the other, and says what is wrong in one", () => {
  const raw = '{"source_pod":["a/}{"]} {"verdict":["DROPPED"]}';
  const { whitelist, blacklist } = ask(
    new URLSearchParams({ pod: "b", allowlist: raw, denylist: "{}" }).toString(),
  );
  assert.equal(whitelist?.length, 4);
  assert.deepEqual(whitelist?.[2]?.source_pod, ["a/}{"]);
  assert.deepEqual(whitelist?.[3]?.verdict, ["DROPPED"]);
  assert.equal(blacklist?.length, 1);
  for (const bad of ["{", "}", "[]", "x", '{"source_prot":["1"]}', '{"verdict":["MAYBE"]}{', '{"a":"']) {
    assert.throws(() => ask(new URLSearchParams({ allowlist: bad }).toString()), /allowlist/, bad);
  }
});

Deno.test("readFlowsQuery() refuses filters that exclude each other, and takes them on different sides", () => {
  for (
    const query of [
      "ip=10.0.0.1&pod=a",
      "from-pod=a&namespace=b",
      "label=a&to-label=b",
      "not-port=1&not-to-port=2",
      "pod=a/b&namespace=c",
      "to-pod=a/b&to-namespace=c",
      "pod=a/b&service=c/d",
    ]
  ) {
    assert.throws(() => ask(query), { code: "QUERY_INVALID" }, query);
  }
  assert.deepEqual(ask("pod=a&not-ip=10.0.0.1").blacklist?.length, 2);
  assert.deepEqual(ask("pod=x&from-namespace=a").whitelist?.map((f) => [f?.source_pod, f?.destination_pod]), [
    [["a/x"], undefined],
    [["a/"], ["x"]],
  ]);
});

Deno.test("readFlowsQuery() takes every count of 64 bits and a mask; readEventsQuery() takes no filters", () => {
  assert.equal(ask("last=18446744073709551615").number, Number.MAX_SAFE_INTEGER);
  assert.throws(() => ask("last=184467440737095516150"), /whole number/);
  assert.deepEqual(ask("field-mask=time,IP.source&field-mask=uuid").field_mask?.paths, [
    "time",
    "IP.source",
    "uuid",
  ]);
  assert.equal(readEventsQuery(new URLSearchParams("first=3"), NOW_MS).first, true);
  assert.throws(() => readEventsQuery(new URLSearchParams("verdict=DROPPED"), NOW_MS), /verdict/);
});
