/** `weir hubble`: the flows of a whole cluster of Kubernetes, for Hubble's clients and browsers; turned on and off. @module */
import { untilAborted } from "@weir/common/deadline";
import { setTimeout as delay } from "node:timers/promises";
import { WeirClient } from "@weir/client";
import { WeirPods } from "@weir/connectivity/weir-pods";
import { flag, noWords, type OptionTable, parse, type ParsedArgs, text } from "../args.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { type NamedCluster, openCluster } from "../install/access.ts";
import { changeConfig, readConfig } from "../install/config.ts";
import { failed } from "../install/install.ts";
import { type PartState, partState, waitForPart } from "../install/rollout.ts";
import { KUBERNETES_OPTIONS } from "../kubernetes_options.ts";
import { type OutputForm, outputForm, render } from "../output.ts";
import { forwardPort } from "../port_forward.ts";
import { unknownVerb } from "../suggestion.ts";
import { showClusterPage } from "./page.ts";
import { type HubblePart, isOn, PARTS, portOf, turned } from "./parts.ts";
import { PlanePort, toPlanePort } from "./pod_forward.ts";

const HINT = "weir help hubble";
const TIMEOUT_S_DEFAULT = 300;
const PLANE = "weir-control-plane";
const PAUSE_MS = 1000;
/** The first question to a pod begins a program in it. */
const ANSWER_MS_MAX = 45_000;
/** Services of the parts. */
const SERVICE: Readonly<Record<HubblePart, string>> = { relay: "relay", ui: "ui", history: "flow-history" };

type Verb = (args: string[], context: CommandContext) => Promise<number>;
const VERBS: Readonly<Record<string, Verb>> = {
  enable: (args, context) => turnCommand(args, context, true),
  disable: (args, context) => turnCommand(args, context, false),
  status: statusCommand,
  "port-forward": portForwardCommand,
  ui: uiCommand,
};

/** Runs the command. */
export async function hubbleCommand([verb, ...rest]: string[], context: CommandContext): Promise<number> {
  if (verb === undefined || !Object.hasOwn(VERBS, verb)) {
    throw unknownVerb("hubble", verb, Object.keys(VERBS));
  }
  return await VERBS[verb](rest, context);
}

async function turnCommand(args: string[], context: CommandContext, isOnWanted: boolean): Promise<number> {
  const parsed = read(args, {
    timeout: { type: "string" },
    "no-wait": { type: "boolean" },
    ...(isOnWanted ? { "no-ui": { type: "boolean" }, "no-history": { type: "boolean" } } as const : {}),
  });
  const timeoutS = secondsOf(parsed), { io } = context;
  const wanted = {
    relay: isOnWanted,
    ui: isOnWanted && !flag(parsed, "no-ui"),
    history: isOnWanted && !flag(parsed, "no-history"),
  };
  using cluster = openCluster(context, HINT, parsed);
  const before = await readConfig(cluster);
  const changed = PARTS.filter((part) => isOn(before, part) !== wanted[part]);
  if (changed.length === 0) io.out(`Hubble is as wanted: ${partsText(wanted)}\n`);
  else {
    await changeConfig(cluster, (config) => turned(config, wanted), ["Deployment"]);
    io.out(`Hubble: ${partsText(wanted)}. The control plane starts anew; traffic goes on\n`);
  }
  if (flag(parsed, "no-wait")) return 0;
  const wait = { deadlineMs: performance.now() + timeoutS * 1000, signal: io.interrupted };
  const state = await waitForPart(cluster, "Deployment", PLANE, wait);
  if (!state?.whole) return failed(state, { kind: "Deployment", metadata: { name: PLANE } }, context);
  io.out("The control plane is ready\n");
  if (isOnWanted) {
    io.out(
      `  weir hubble port-forward   the flows of all nodes for hubble\n${
        wanted.ui ? "  weir hubble ui             the page\n" : ""
      }`,
    );
  }
  return 0;
}

const partsText = (wanted: Readonly<Record<HubblePart, boolean>>) =>
  PARTS.map((part) => `${part} ${wanted[part] ? "on" : "off"}`).join(", ");

/** A part as it is. */
interface PartReport {
  readonly name: HubblePart;
  readonly isOn: boolean;
  /** It answers that it is ready; of one that is off false. */
  readonly isReady: boolean;
  /** What it says of itself. */
  readonly message: string;
}

async function statusCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = read(args, {
    wait: { type: "boolean" },
    timeout: { type: "string" },
    output: { type: "string", short: "o" },
  });
  const form = outputForm(text(parsed, "output")), timeoutS = secondsOf(parsed), { io } = context;
  using cluster = openCluster(context, HINT, parsed);
  const deadlineMs = performance.now() + timeoutS * 1000;
  let report = await look(cluster);
  while (
    flag(parsed, "wait") && !report.isWell && performance.now() < deadlineMs && !io.interrupted.aborted
  ) {
    await delay(PAUSE_MS);
    report = await look(cluster);
  }
  io.out(statusText(report, form));
  return report.isWell ? 0 : 1;
}

interface HubbleReport {
  readonly isWell: boolean;
  readonly parts: readonly PartReport[];
  readonly controlPlane: PartState | undefined;
}

async function look(cluster: NamedCluster): Promise<HubbleReport> {
  const config = await readConfig(cluster);
  const controlPlane = await partState(cluster, "Deployment", PLANE);
  await using pods = await WeirPods.open(cluster.client, cluster.namespace);
  const parts = await Promise.all(PARTS.map(async (name): Promise<PartReport> => {
    if (!isOn(config, name)) return { name, isOn: false, isReady: false, message: "weir hubble enable" };
    const { ready, text } = await readinessOf(pods, SERVICE[name]);
    const where = name === "history" ? "" : `port ${portOf(config, name)}`;
    const message = [where, ready ? "" : messageOf(text)].filter((one) => one !== "").join("; ");
    return { name, isOn: true, isReady: ready, message };
  }));
  const isWell = controlPlane?.whole === true && parts.every(({ isOn, isReady }) => isReady || !isOn);
  return { isWell, parts, controlPlane };
}

async function readinessOf(pods: WeirPods, service: string): Promise<{ ready: boolean; text: string }> {
  try {
    const client = new WeirClient({ handler: pods.handler(service) }, { deadlineMs: ANSWER_MS_MAX });
    try {
      return await client.readiness();
    } finally {
      client.close();
    }
  } catch (error) {
    return { ready: false, text: (error as Error).message };
  }
}

/** The line that says what is not well. */
function messageOf(text: string): string {
  const lines = text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  return lines.find((line) => line.startsWith("[-]"))?.slice(3).trim() ?? lines[0] ?? "it does not say why";
}

function statusText({ parts, controlPlane, isWell }: HubbleReport, form: OutputForm): string {
  const state = ({ isOn, isReady }: PartReport) => !isOn ? "off" : isReady ? "ready" : "not ready";
  const rows = render(
    [...parts],
    [
      { title: "PART", cell: ({ name }) => name },
      { title: "STATE", cell: state },
      { title: "MESSAGE", cell: ({ message }) => message },
    ],
    form,
    { healthy: isWell, parts, controlPlane },
  );
  if (form === "json" || form === "yaml") return rows;
  const troubles = controlPlane === undefined
    ? `Deployment ${PLANE} is not installed\n`
    : controlPlane.troubles.map((trouble) => `  ${trouble}\n`).join("");
  return `${rows}${troubles}${isWell ? "Hubble is ready" : "Hubble is not ready"}\n`;
}

async function portForwardCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = read(args, { listen: { type: "string" } }), { io } = context;
  using cluster = openCluster(context, HINT, parsed);
  const config = await readConfig(cluster);
  if (!isOn(config, "relay")) {
    throw new Error("Cannot lead to Hubble's API: it is turned off; weir hubble enable");
  }
  const port = portOf(config, "relay"), plane = new PlanePort(cluster, port);
  await plane.check();
  const forward = await forwardPort({
    listen: withPort(text(parsed, "listen") ?? "127.0.0.1", port),
    lead: toPlanePort(plane, (said) => io.err(`weir: ${said}\n`)),
  });
  try {
    io.out(`${forward.address}\n`);
    io.err(`The flows of all nodes: hubble observe -f --server ${forward.address}. Ctrl-C ends it\n`);
    await untilAborted(io.interrupted);
  } finally {
    await forward.stop();
  }
  return 0;
}

async function uiCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = read(args, { listen: { type: "string" }, "no-open": { type: "boolean" } });
  using cluster = openCluster(context, HINT, parsed);
  if (!isOn(await readConfig(cluster), "ui")) {
    throw new Error("Cannot open the page: it is turned off; weir hubble enable");
  }
  const options = { listen: text(parsed, "listen"), open: !flag(parsed, "no-open") };
  return await showClusterPage(cluster, options, context);
}

function read(args: string[], options: OptionTable): ParsedArgs {
  const parsed = parse(args, { ...options, ...KUBERNETES_OPTIONS }, HINT);
  noWords(parsed, HINT);
  return parsed;
}

function secondsOf(parsed: ParsedArgs): number {
  const seconds = Number(text(parsed, "timeout") ?? TIMEOUT_S_DEFAULT);
  if (!(seconds > 0)) throw new UsageError("--timeout takes seconds", HINT);
  return seconds;
}

/** An address with a port, this one where it has none. */
function withPort(listen: string, port: number): string {
  return /:\d+$/.test(listen.replace(/^\[.*\]/, "")) ? listen : `${listen}:${port}`;
}
