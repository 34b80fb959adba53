import assert from "node:assert/strict";
import { provideSelftests } from "./kernel_selftests.ts";
import { isNetwork, runSelftests, type SelftestResult, summarize } from "./selftests.ts";
import { Subject } from "./subject.ts";

const selftests = await provideSelftests();
if ("skip" in selftests) console.log(`SKIP kernel selftests: ${selftests.skip}`);

/** Measured; it may only rise. The aim is 0.95. */
const PRECISION_MIN = 0.98;

/**
 * Annotated to be rejected, and accepted by ours: for which reason. Nothing about memory, types, references,
 * bounds, stack, context or packets may ever be here.
 */
const ACCEPTED_KNOWINGLY: Record<string, string> = {};

let cached: SelftestResult[] | undefined;

/** All tests look at one run. */
function results(): SelftestResult[] {
  if (cached === undefined) {
    const subject = new Subject();
    try {
      cached = runSelftests(subject, "skip" in selftests ? [] : selftests.objects);
    } finally {
      subject.close();
    }
    Deno.writeTextFileSync(
      new URL("../../.build/selftests/result.json", import.meta.url),
      JSON.stringify(cached, null, 1),
    );
  }
  return cached;
}

function names(list: readonly SelftestResult[]): string {
  return list.map(({ object, program, messages, code }) =>
    `${object} ${program} ${code} ${messages.join(" / ")}`
  ).join("\n");
}

Deno.test({
  name: "selftests: no program that must be rejected is accepted",
  ignore: "skip" in selftests,
  fn: () => {
    assert.ok(results().length > 1500, `${results().length} programs`);
    const { dangerous, lenient } = summarize(results());
    const known = (result: SelftestResult) =>
      `${result.object.replace(/\.o$/, "")} ${result.program}` in ACCEPTED_KNOWINGLY;
    const unknown = [...dangerous, ...lenient].filter((result) => !known(result));
    for (const result of [...dangerous, ...lenient].filter(known)) {
      console.log(
        `  accepted knowingly: ${result.program}: ${
          ACCEPTED_KNOWINGLY[`${result.object.replace(/\.o$/, "")} ${result.program}`]
        }`,
      );
    }
    assert.equal(unknown.length, 0, `wrongly accepted:\n${names(unknown)}`);
  },
});

Deno.test({
  name: "selftests: safe programs of network types are accepted",
  ignore: "skip" in selftests,
  fn: () => {
    const { precision, decidable, tooStrict, tooStrictElsewhere } = summarize(results());
    const unsupported = results().filter((result) =>
      result.verdict === "unsupported" && result.expected === "accept"
    );
    console.log(
      `  ${
        (precision * 100).toFixed(1)
      } % of ${decidable} accepted, ${tooStrict.length} too strict (and ${tooStrictElsewhere.length} of ` +
        `other types), ${unsupported.filter(isNetwork).length} unsupported`,
    );
    assert.ok(
      precision >= PRECISION_MIN,
      `${(precision * 100).toFixed(1)} %, too strict:\n${names(tooStrict)}`,
    );
    assert.ok(decidable > 600, `only ${decidable} decidable`);
  },
});

Deno.test({
  name: "selftests: programs of type tracing are judged, none of those to be rejected is accepted",
  ignore: "skip" in selftests,
  fn: () => {
    const tracing = results().filter((result) => result.programType === 26);
    const count = (expected: string, ...verdicts: string[]): number =>
      tracing.filter((result) => result.expected === expected && verdicts.includes(result.verdict)).length;
    const refused = count("reject", "unsafe", "not-proved"), accepted = count("accept", "accepted");
    console.log(
      `  ${tracing.length} programs: ${accepted} safe ones accepted, ${refused} unsafe ones refused, the others unsupported`,
    );
    assert.equal(count("reject", "accepted"), 0);
    assert.equal(count("accept", "unsafe", "not-proved", "limit"), 0);
    assert.ok(accepted >= 10 && refused >= 4, `${accepted} accepted, ${refused} refused`);
  },
});

Deno.test({
  name: "selftests: each answer comes within its limits and can be read",
  ignore: "skip" in selftests,
  fn: () => {
    const unreadable = results().filter((result) => result.verdict === "unreadable");
    assert.equal(unreadable.length, 0, names(unreadable));
    for (const result of results()) {
      assert.ok(
        result.verdict === "accepted" || /^WV\d{4}$|^out-of-/.test(result.code),
        `${result.program}: ${result.code}`,
      );
    }
  },
});
