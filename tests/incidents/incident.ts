/**
 * Incidents as somebody meets them: something is set up wrong, traffic does not come through, one command is asked, its words
 * name the cause, its fix is applied as it was printed, and then it works.
 * @module
 */
import assert from "node:assert/strict";
import type { Lab, Ran } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";

/** Traffic as `weir lab test` has it: `from: shop/client, to: shop/web-1, port: 8080`. */
export type Traffic = string;

/** What makes it right again. */
export type Fix =
  /** The policy that `weir explain --manifest` prints. */
  | "manifest"
  /** The first `weir ...` that the answer prints after one of the words of a fix. */
  | "command"
  /** What the answer says is done by hand, to the manifests of the set-up. */
  | { readonly says: RegExp; readonly replace: readonly [string, string] }
  /** The command that the answer names, the first group of `says`, is run in this pod; again while the answer names another. */
  | { readonly says: RegExp; readonly inPod: string }
  /** What the answer says is done by commands. */
  | { readonly says: RegExp; readonly run: readonly (readonly string[])[] };

/** One incident. */
export interface Incident {
  readonly name: string;
  /** Manifests that are applied, in the namespace that they name; they go when the incident ends. */
  readonly manifests?: string;
  /** Commands beside them, as words of `weir`. */
  readonly setup?: readonly (readonly string[])[];
  /** What takes the commands back. */
  readonly cleanup?: readonly (readonly string[])[];
  /** What does not come through, and does after the fix. Without: the words are all. */
  readonly traffic?: readonly Traffic[];
  /** The one command, as words of `weir`. */
  readonly ask: readonly string[];
  /** Words that must be there, and that must not. */
  readonly says: readonly RegExp[];
  readonly saysNot?: readonly RegExp[];
  readonly code?: number;
  readonly fix?: Fix;
}

/** Plays an incident in a lab. */
export async function play(lab: Lab, incident: Incident): Promise<void> {
  const { manifests, setup = [], cleanup = [], traffic = [], ask, says, saysNot = [], fix } = incident;
  const undo: string[][] = [];
  try {
    if (manifests !== undefined) await apply(lab, manifests);
    // Who is stopped has no other number when it goes on.
    for (const words of cleanup) undo.push(await resolved(lab, words));
    for (const words of setup) await ok(lab, words);
    if (traffic.length > 0) await expectAll(lab, traffic, "deny");
    const answer = await answerOf(lab, ask, says);
    const text = answer.out + answer.err;
    for (const word of saysNot) assert.doesNotMatch(text, word);
    if (incident.code !== undefined) assert.equal(answer.code, incident.code, text);
    if (fix !== undefined) await mend(lab, incident, text, fix);
    if (fix !== undefined && traffic.length > 0) await expectAll(lab, traffic, "allow");
    if (fix !== undefined && ask[0] === "status") await ok(lab, ["status", "--wait", "--timeout", "300"]);
  } finally {
    for (const words of undo) await lab.weir(words);
    if (undo.length > 0) await lab.weir(["status", "--wait", "--timeout", "300"]);
    if (manifests !== undefined) {
      const [text] = await resolved(lab, [manifests]);
      await lab.weir(["lab", "delete", "-f", "-"], text);
    }
    await removePolicies(lab);
  }
}

/** What only time shows (a probe that fails, a flow without an answer) may take a moment to be known. */
async function answerOf(lab: Lab, ask: readonly string[], says: readonly RegExp[]): Promise<Ran> {
  let answer: Ran | undefined;
  await until(
    () => `weir ${ask.join(" ")} says ${says.join(" and ")}:\n${answer?.out}${answer?.err}`,
    async () => {
      answer = await lab.weir([...ask]);
      const text = answer.out + answer.err;
      return says.every((word) => word.test(text));
    },
    PAUSE_MS,
  );
  return answer!;
}
const PAUSE_MS = 500;

async function mend(lab: Lab, { manifests = "", ask }: Incident, text: string, fix: Fix): Promise<void> {
  if (fix === "manifest") {
    const { out } = await lab.weir([...ask, "--manifest"]);
    assert.match(out, /^apiVersion/, `${ask.join(" ")} prints no manifest\n${text}`);
    await lab.apply(out);
  } else if (fix === "command") {
    const [, command] = /^\s*(?:fix|to allow it|or) +.*?\bweir ([a-z].*)$/m.exec(text) ?? [];
    assert.ok(command, `the answer prints no command\n${text}`);
    await ok(lab, command.trim().split(/\s+/));
    await lab.inForce();
  } else {
    assert.match(text, fix.says);
    if ("inPod" in fix) await runInPod(lab, ask, fix);
    else if ("run" in fix) { for (const words of fix.run) await ok(lab, words); }
    else {
      const [old, now] = fix.replace;
      assert.ok(manifests.includes(old), `the set-up does not have ${old}`);
      await apply(lab, manifests.replaceAll(old, now));
    }
  }
}

async function runInPod(lab: Lab, ask: readonly string[], { says, inPod }: { says: RegExp; inPod: string }) {
  let last = "";
  while (true) {
    const { out } = await lab.weir([...ask]);
    const command = says.exec(out)?.[1];
    if (command === undefined || command === last) return;
    await ok(lab, ["lab", "exec", inPod, "--", ...command.split(" ")]);
    last = command;
  }
}

/** Pods, services and policies alike. */
async function apply(lab: Lab, text: string): Promise<void> {
  const [manifests] = await resolved(lab, [text]);
  const ran = await lab.weir(["lab", "apply", "-f", "-"], manifests);
  assert.equal(ran.code, 0, `weir lab apply: exit ${ran.code}\n${ran.out}${ran.err}`);
  await lab.inForce();
}

/** Words of `weir`; "address-of:shop/web-1" is the pod's address, "pid-of:datapath@node-1" the process. */
async function ok(lab: Lab, words: readonly string[]): Promise<void> {
  await lab.ok(await resolved(lab, words));
}

async function resolved(lab: Lab, words: readonly string[]): Promise<string[]> {
  if (!words.some((word) => /(address|pid)-of:/.test(word))) return [...words];
  // Exit code 1 while something is not well: that is what an incident is.
  const { pods, processes }: LabStatus = JSON.parse((await lab.weir(["lab", "status", "-o", "json"])).out);
  const meant = new Map([
    ...pods.map(({ namespace, name, ipv4 }): [string, string] => [`address-of:${namespace}/${name}`, ipv4]),
    ...processes.map(({ name, node, pid }): [string, string] => [`pid-of:${name}@${node}`, `${pid}`]),
  ]);
  return words.map((word) =>
    word.replace(/(address|pid)-of:[a-z0-9-]+[/@][a-z0-9-]+/g, (name) => meant.get(name) ?? name)
  );
}

interface LabStatus {
  readonly pods: readonly { namespace: string; name: string; ipv4: string }[];
  readonly processes: readonly { name: string; node: string; pid: number }[];
}
async function expectAll(lab: Lab, traffic: readonly Traffic[], expect: "allow" | "deny"): Promise<void> {
  const lines = traffic.map((one) => `- { ${one}, expect: ${expect} }\n`).join("");
  let ran: Ran | undefined;
  await until(() => `traffic is as expected:\n${lines}${ran?.out}${ran?.err}`, async () => {
    ran = await lab.weir(["lab", "test", "-"], lines);
    // A connection that is refused is neither to `lab test`: to whoever waits for an answer it is none.
    return ran.code === 0 || (expect === "deny" && !/\ballow\b.*FAIL|pass/.test(ran.out));
  }, PAUSE_MS);
}

/** Of whatever an incident and its fix left. */
async function removePolicies(lab: Lab): Promise<void> {
  const names = JSON.parse(await lab.ok(["policy", "list", "-o", "json"])).map(({ name }: { name: string }) =>
    name
  );
  if (names.length > 0) await lab.drop(...names);
}
