/**
 * Runs the selftests and writes the outcome: `.build/selftests/result.json` and, as a page for people, to the
 * file that is named (`deno run -A tests/verifier/selftests_main.ts [PAGE]`).
 *
 * @module
 */

import { provideSelftests } from "./kernel_selftests.ts";
import { runSelftests, selftestPage, summarize } from "./selftests.ts";
import { Subject } from "./subject.ts";

const selftests = await provideSelftests();
if ("skip" in selftests) {
  console.log(`SKIP ${selftests.skip}`);
  Deno.exit(0);
}
const subject = new Subject();
const results = runSelftests(subject, selftests.objects);
subject.close();
Deno.writeTextFileSync(
  new URL("../../.build/selftests/result.json", import.meta.url),
  JSON.stringify(results, null, 1),
);
if (Deno.args[0] !== undefined) Deno.writeTextFileSync(Deno.args[0], selftestPage(results));
const { dangerous, lenient, tooStrict, tooStrictElsewhere, decidable, precision } = summarize(results);
console.log(
  `${results.length} programs: ${dangerous.length} dangerous, ${lenient.length} lenient, ${tooStrict.length} too strict ` +
    `(${(precision * 100).toFixed(1)} % of ${decidable}), ${tooStrictElsewhere.length} too strict elsewhere`,
);
