import { deepEqual, equal, ok } from "node:assert/strict";
import { BpfObject, requestOf } from "@weir/object";
import { clang, compile } from "@weir/object/compile_fixture";
import { compareReleases, featureOf, helperName, isRelease } from "./kernel_versions.ts";
import { missingIn } from "./requirement.ts";

Deno.test(
  "missingIn() names what an older kernel lacks and where it is used",
  { ignore: clang.missing },
  () => {
    const object = BpfObject.parse(compile(new URL("../object/testdata/kitchen.c", import.meta.url)));
    const { request, source } = requestOf(object, object.programs[0]);
    const at = (release: string) =>
      missingIn(release, request, source).map((need) => `${need.name} ${need.since}`);
    ok(at("5.15").includes("bpf_loop 5.17"));
    ok(at("4.14").includes("calls between functions 4.16"));
    ok(at("4.14").includes("global functions 5.6"));
    deepEqual(at("6.12"), []);
    const loop = missingIn("5.15", request, source).find((need) => need.name === "bpf_loop")!;
    ok(/^kitchen\.c:\d+$/.test(loop.at), loop.at);
  },
);

Deno.test("kernel_versions.tsv is ordered as the kernel's history: a later helper number is never older", () => {
  let last = "3.19";
  for (let number = 1; number <= 211; number++) {
    const row = featureOf("helper", number);
    ok(row !== undefined, `helper ${number}`);
    ok(compareReleases(row.kernel, last) >= 0, `${row.name} ${row.kernel} after ${last}`);
    last = row.kernel;
  }
  equal(helperName(9), "bpf_skb_store_bytes");
  equal(featureOf("attach", 46)!.kernel, "6.6");
  equal(featureOf("map", 27)!.name, "ringbuf");
  deepEqual([isRelease("6.1"), isRelease("six"), isRelease("6")], [true, false, false]);
});
