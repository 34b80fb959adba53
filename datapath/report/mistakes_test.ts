import { equal, notEqual, ok } from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { clang, compile } from "@weir/object/compile_fixture";
import { Btf, ElfFile } from "@weir/object";
import { verifierWasmUrl } from "@weir/verifier";
import { buildVerifier } from "@weir/verifier/build";
import { renderExplanation } from "./format.ts";
import { pageOf, parseCode } from "./pages.ts";
import { verifierOf, verifyObject } from "./verify_object.ts";

// Real mistakes as C, and beside each the text that a person gets. WEIR_UPDATE=1 writes the texts anew: read them aloud then.
const directory = new URL("./testdata/", import.meta.url);
const mistakes = [...Deno.readDirSync(directory)].map((entry) => entry.name).filter((name) =>
  name.endsWith(".c")
).sort();

let module: Promise<WebAssembly.Module> | undefined;
function verifierModule(): Promise<WebAssembly.Module> {
  return module ??= (async () => {
    await buildVerifier({ out: fileURLToPath(verifierWasmUrl) });
    return await WebAssembly.compile(Deno.readFileSync(verifierWasmUrl));
  })();
}

let compiled: Uint8Array | undefined;
/** A kernel of a few structs: texts and verdicts must not depend on the machine's own. */
function kernel(): Uint8Array {
  return compiled ??= compile(new URL("kernel/kernel.c", directory));
}

for (const name of mistakes) {
  Deno.test({
    name: `verifyObject() explains ${name.replace(".c", "").replaceAll("_", " ")}`,
    ignore: clang.missing,
    fn: async () => {
      const verifier = verifierOf(await verifierModule());
      // A file that is only wrong for unprivileged loads says so in its first line.
      const strict = /^\/\*.*--strict/.test(Deno.readTextFileSync(new URL(name, directory)));
      const entries = verifyObject(name, compile(new URL(name, directory)), verifier, {
        strict,
        kernelBtf: Btf.parse(ElfFile.sectionOf(kernel(), ".BTF")!),
      });
      equal(entries.length, 1);
      notEqual(entries[0].verdict, "accepted");
      ok(pageOf(parseCode(entries[0].code)!)!.meaning !== "");
      const text = renderExplanation(entries[0]);
      const expected = new URL(name.replace(/\.c$/, ".txt"), directory);
      if (Deno.env.get("WEIR_UPDATE") === "1") Deno.writeTextFileSync(expected, text);
      equal(text, Deno.readTextFileSync(expected));
    },
  });
}
