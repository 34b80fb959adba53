/**
 * Builds what does not run as it is: the verifier (WebAssembly), the eBPF objects, the CNI plugin and the web page, into `.build`. Unchanged parts are
 * skipped by the builders themselves.
 * @module
 */
import { buildPrograms, findClang } from "../datapath/bpf/build.ts";
import { buildVerifier } from "../datapath/verifier/build.ts";
import { buildCniPlugin } from "../services/endpoint-manager/cni/plugin/build.ts";
import { buildPage } from "../services/ui/build.ts";

const out = new URL("../.build/", import.meta.url).pathname;
Deno.mkdirSync(out, { recursive: true });
await buildVerifier({ out: `${out}verifier.wasm` });
await buildPrograms({ out: `${out}bpf` });
await buildCniPlugin({ out: `${out}cni`, compiler: findClang() });
await buildPage({ out: `${out}ui` });
