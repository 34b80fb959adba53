import assert from "node:assert/strict";
import { DropReasonNumber, TraceObservationPointNumber, TraceReasonNumber } from "./gen/flow.ts";
import { DROP, DROP_REASONS, TRACE_POINTS, TRACE_REASONS } from "./gen/numbers.ts";
import { parseNumbers, readNumbers } from "./numbers.ts";
import { dropReasonName, dropReasonText, eventFileName, matchTypeText, tracePointName } from "./words.ts";

Deno.test("parseNumbers() refuses what would give two things one number, or one thing two", () => {
  const cases: [line: string, fault: RegExp][] = [
    ["132\tA\tB", /line 2: 3 columns/],
    ["256\tA\tB\tc", /number "256"/],
    ["130\tA\tB\tc", /number 130 does not come after 131/],
    ["132\tX\tB\tc", /X is there already/],
    ["132\tA\tY\tc", /Y is there already/],
    ["132\ta\tB\tc", /name "a", expected capitals/],
    ["132\tA\tB\tc\told", /"old", expected "deprecated"/],
  ];
  for (const [line, fault] of cases) {
    assert.throws(() => parseNumbers(`131\tX\tY\tz\n${line}\n`, "t"), fault, line);
  }
});

Deno.test("every table is read, and no line of it is lost", () => {
  for (const [{ file }, { rows }] of readNumbers()) {
    const source = Deno.readTextFileSync(new URL(`numbers/${file}`, import.meta.url));
    assert.equal(rows.length, source.split("\n").filter((line) => /^\d/.test(line)).length, file);
  }
});

Deno.test("every name in a table is an enumerator of the messages, drop reasons with the same number", () => {
  for (const { name, number } of DROP_REASONS) {
    assert.equal(DropReasonNumber[name as keyof typeof DropReasonNumber], number);
  }
  assert.equal(Object.keys(DropReasonNumber).length, DROP_REASONS.length + 1);
  for (const { name } of TRACE_POINTS) assert.ok(name in TraceObservationPointNumber, name);
  for (const { name } of TRACE_REASONS) assert.ok(name in TraceReasonNumber, name);
});

Deno.test("numbers have names and words", () => {
  assert.equal(dropReasonName(DROP.POLICY), "POLICY_DENIED");
  assert.equal(dropReasonText(DROP.INVALID_SIP), "Invalid source ip");
  assert.equal(dropReasonText(130), "INVALID_SOURCE_MAC");
  assert.equal(dropReasonText(1), undefined);
  assert.equal(dropReasonName(1), "DROP_REASON_UNKNOWN");
  assert.equal(tracePointName(0), "TO_ENDPOINT");
  assert.equal(matchTypeText(2), "L3-L4");
  assert.equal(eventFileName(1), "bpf_lxc.c");
});
