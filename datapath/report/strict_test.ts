import { deepEqual, equal, match, ok } from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { clang, compile } from "@weir/object/compile_fixture";
import { verifierWasmUrl } from "@weir/verifier";
import { buildVerifier } from "@weir/verifier/build";
import { verifierOf, verifyObject } from "./verify_object.ts";

/** Verifies a fixture of the object reader, with and without strict mode. */
async function both(kernel?: string, visits?: number) {
  await buildVerifier({ out: fileURLToPath(verifierWasmUrl) });
  const verifier = verifierOf(new WebAssembly.Module(Deno.readFileSync(verifierWasmUrl)));
  const costly: typeof verifier = (request) => {
    const report = verifier(request);
    return visits === undefined ? report : { ...report, visits };
  };
  const data = compile(new URL("./testdata/good/ok.c", import.meta.url));
  return [false, true].map((strict) => verifyObject("ok.o", data, costly, { strict, kernel })[0]);
}

Deno.test(
  "verifyObject() makes what a kernel lacks the verdict in strict mode",
  { ignore: clang.missing },
  async () => {
    const [lenient, strict] = await both("3.18");
    equal(lenient.verdict, "accepted");
    ok(lenient.missing.length > 0);
    deepEqual([strict.verdict, strict.code, strict.name], ["unsupported", "WV0219", "missing-in-kernel"]);
    match(strict.message, /^Linux 3\.18 lacks .*\(since \d/);
    ok(strict.suggestion.length > 0);
    for (const entry of await both("6.12")) equal(entry.verdict, "accepted");
  },
);

Deno.test("verifyObject() makes half of the kernel's limit the verdict in strict mode", {
  ignore: clang.missing,
}, async () => {
  const [lenient, strict] = await both(undefined, 500_000);
  equal(lenient.verdict, "accepted");
  match(
    lenient.budget!.warning,
    /^50% of 1000000 visits are used; the kernel has the same limit and may need more or fewer/,
  );
  deepEqual([strict.verdict, strict.code, strict.name], ["limit", "WV0218", "half-of-visit-limit"]);
  match(
    strict.message,
    /^50% of 1000000 visits are used; the kernel has the same limit and may need more or fewer/,
  );
  for (const entry of await both(undefined, 499_000)) equal(entry.verdict, "accepted");
});
