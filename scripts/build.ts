/**
 * Builds what does not run as it is: the verifier (WebAssembly), the eBPF objects and the web page, into `.build`. Unchanged parts are
 * skipped by the builders themselves.
 * @module
 */
import { buildPrograms } from "../datapath/bpf/build.ts";
import { buildVerifier } from "../datapath/verifier/build.ts";
import { buildPage } from "../services/ui/build.ts";

const out = new URL("../.build/", import.meta.url).pathname;
Deno.mkdirSync(out, { recursive: true });
await buildVerifier({ out: `${out}verifier.wasm` });
await buildPrograms({ out: `${out}bpf` });
await buildPage({ out: `${out}ui` });
