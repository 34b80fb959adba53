/**
 * Builds what is not TypeScript: the verifier (WebAssembly) and the eBPF objects, into `.build`. Unchanged parts are
 * skipped by the builders themselves.
 * @module
 */
import { buildPrograms } from "../datapath/bpf/build.ts";
import { buildVerifier } from "../datapath/verifier/build.ts";

const out = new URL("../.build/", import.meta.url).pathname;
Deno.mkdirSync(out, { recursive: true });
await buildVerifier({ out: `${out}verifier.wasm` });
await buildPrograms({ out: `${out}bpf` });
