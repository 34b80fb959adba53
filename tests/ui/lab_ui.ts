/** The web page of a lab, as `weir ui` opens it. @module */
import assert from "node:assert/strict";
import type { Chromium } from "./browser.ts";

const root = new URL("../../", import.meta.url).pathname;

/** A page that somebody was let in to. */
export interface LabUi {
  /** Without the token. */
  readonly address: string;
  /** "NAME=VALUE". */
  readonly cookie: string;
  /** Asks below the address as the browser that was let in. */
  get(path: string): Promise<Response>;
  /** Gives a browser what it would have got itself. */
  letIn(browser: Chromium): Promise<void>;
  stop(): Promise<void>;
}

/** `weir ui` of a lab, until it is stopped. @param options more words of it */
export async function startLabUi(lab: string, options: readonly string[] = []): Promise<LabUi> {
  const child = new Deno.Command(`${root}scripts/weir`, {
    args: ["ui", "--lab", lab, "--no-open", "--listen", "127.0.0.1:0", ...options],
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
  const [address] = text.split("?");
  const welcome = await fetch(text.trim(), { redirect: "manual" });
  await welcome.body?.cancel();
  assert.equal(welcome.status, 303, "the address lets in");
  const [cookie] = welcome.headers.get("set-cookie")!.split(";");
  return {
    address,
    cookie,
    get: (path) => fetch(`${address}${path}`, { headers: { cookie } }),
    letIn: (browser) => browser.keepCookie(address, cookie),
    async stop() {
      child.kill("SIGINT");
      const { code } = await child.status;
      await reader.cancel();
      assert.equal(code, 0, "weir ui ends in order");
    },
  };
}
