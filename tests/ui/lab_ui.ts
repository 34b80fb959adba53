/** The web page of a lab, as `weir ui` serves it. @module */
import assert from "node:assert/strict";

const root = new URL("../../", import.meta.url).pathname;

/** `weir ui` of a lab, until it is stopped. */
export async function startLabUi(lab: string): Promise<{ address: string; stop(): Promise<void> }> {
  const child = new Deno.Command(`${root}scripts/weir`, {
    args: ["ui", "--lab", lab, "--no-open", "--listen", "127.0.0.1:0", "--base-path", "/weir"],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { done, value } = await reader.read();
    assert.ok(!done, "weir ui ended before it said where it is");
    text += value;
  }
  return {
    address: text.trim(),
    async stop() {
      child.kill("SIGINT");
      const { code } = await child.status;
      await reader.cancel();
      assert.equal(code, 0, "weir ui ends in order");
    },
  };
}
