/**
 * The agents of a lab, one per node, kept running as an init system would keep them: started anew when they end, and when
 * they do not answer, as systemd's watchdog does.
 *
 * @module
 */
import { askSignOfLife, type WeirClient } from "@weir/client";
import { Backoff } from "@weir/common";
import { SupervisedProcess } from "@weir/common/supervised-process";
import { enter } from "./command.ts";
import type { LabNode } from "./topology.ts";

/** What the agent of a node is started with. */
export interface NodeAgentOptions {
  /** `scripts/weir`. */
  readonly weir: string;
  readonly args: readonly string[];
  readonly logFile: string;
  /** Of its socket. */
  readonly client: WeirClient;
  /** How long it may not answer. */
  readonly hungAfterMs: number;
}

/** How long an agent may take to end its services. */
const STOP_MS_MAX = 15_000;

/** The agent of a node, inside the node's network namespace. */
export function nodeAgent(node: LabNode, options: NodeAgentOptions): SupervisedProcess {
  // nsenter, not `ip netns exec`: that would give the agent another /sys, without the pins.
  const words = enter(node.netns, [
    "sh",
    "-c",
    'log=$0 && exec "$@" >>"$log" 2>&1',
    options.logFile,
    options.weir,
    "agent",
    "--supervised",
    ...options.args,
  ]);
  return new SupervisedProcess({
    command: { words },
    holdsStdin: true,
    lastWords: () => lastLine(options.logFile),
    ask: (signal) => askSignOfLife(options.client, signal),
    askIntervalMs: 250,
    hungAfterMs: options.hungAfterMs,
    stopMsMax: STOP_MS_MAX,
    backoff: new Backoff({ delayMsMin: 500, delayMsMax: 5000 }),
  });
}

/** The line of a log that says why it ended. */
async function lastLine(path: string): Promise<string> {
  const text = await Deno.readTextFile(path).catch(() => "");
  // deno-lint-ignore no-control-regex
  const lines = text.replace(/\x1b\[[0-9;]*m/g, "").trim().split("\n");
  return (lines.findLast((line) => line.startsWith("weir agent: ")) ?? lines.at(-1) ?? "").slice(0, 400);
}
