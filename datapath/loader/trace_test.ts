import assert from "node:assert/strict";
import { kernelTest } from "./testing.ts";

function hasStrace(): boolean {
  try {
    return new Deno.Command("strace", { args: ["-V"], stdout: "null", stderr: "null" }).outputSync().success;
  } catch {
    return false;
  }
}

kernelTest("Gate: the kernel sees exactly the programs that were accepted (traced system calls)", () => {
  if (!hasStrace()) return console.log("SKIP: no strace");
  const trace = Deno.makeTempFileSync();
  try {
    const { success, stdout, stderr } = new Deno.Command("strace", {
      args: [
        ...["-f", "-qq", "-e", "trace=bpf", "-o", trace, Deno.execPath(), "run", "-A"],
        ...["--config", new URL("../../deno.json", import.meta.url).pathname],
        new URL("testdata/traced_load.ts", import.meta.url).pathname,
      ],
    }).outputSync();
    assert.ok(success, new TextDecoder().decode(stderr));
    const accepted = JSON.parse(new TextDecoder().decode(stdout)) as string[];
    const loads = Deno.readTextFileSync(trace).split("\n").filter((line) => line.includes("BPF_PROG_LOAD"))
      .map((line) => /prog_name="([^"]*)"/.exec(line)?.[1] ?? "");
    // libbpf asks the kernel what it knows with programs of its own, of two or three instructions.
    const ours = loads.filter((name) => name !== "" && !name.startsWith("libbpf_"));
    assert.deepEqual(ours, accepted);
    assert.deepEqual(accepted, ["count", "count", "drop", "pass", "twice"]);
  } finally {
    Deno.removeSync(trace);
  }
});
