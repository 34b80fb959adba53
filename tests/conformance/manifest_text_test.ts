/** The data's policies as texts, in each style that people and programs write them in. @module */
import assert from "node:assert/strict";
import { FaultList, readDocuments, toValue } from "@weir/common/manifest";
import { stringify } from "yaml";
import { readTestdata } from "./testdata.ts";

/** Different ones of each file that are read. */
const POLICIES_MAX = 40;

/** Whatever has a spec. */
function policiesOf(value: unknown, found = new Set<string>()): Set<string> {
  if (typeof value !== "object" || value === null || found.size >= POLICIES_MAX) return found;
  if (Object.hasOwn(value, "spec")) found.add(JSON.stringify(value));
  for (const part of Object.values(value)) policiesOf(part, found);
  return found;
}

Deno.test("readDocuments() reads the policies of every file of the data in each style of YAML", async () => {
  for await (const { name } of Deno.readDir(new URL("./testdata", import.meta.url))) {
    const found = policiesOf(await readTestdata(name.replace(/\.json\.gz$/, "")));
    // Its rules are Cilium's own, of no manifest.
    if (name === "cilium-tiers-random.json.gz") continue;
    assert.ok(found.size > 0, name);
    const values = [...found].map((text) => JSON.parse(text));
    const texts = {
      YAML: values.map((value) => stringify(value)),
      "kubectl's indentation": values.map((value) => stringify(value, { indentSeq: false, lineWidth: 40 })),
      "quoted YAML": values.map((value) => stringify(value, { defaultStringType: "QUOTE_SINGLE" })),
      "flow style": values.map((value) => stringify(value, { collectionStyle: "flow" })),
      JSON: values.map((value) => JSON.stringify(value, null, 2)),
    };
    for (const [style, documents] of Object.entries(texts)) {
      const faults = new FaultList(), read = readDocuments(documents.join("\n---\n"), faults);
      assert.deepEqual(faults.faults, [], `${name} as ${style}`);
      assert.deepEqual(read.map(({ root }) => toValue(root)), values, `${name} as ${style}`);
    }
  }
});
