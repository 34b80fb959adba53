/**
 * `weir explain`, and the same as `weir policy explain`: whether a connection is allowed and works, what decides on its way, and
 * the smallest change.
 *
 * @module
 */
import { PROTOCOL_NUMBERS } from "@weir/common/map-state";
import { MapDump } from "@weir/proto/datapath";
import { ExplainStep } from "@weir/proto/policy";
import { flag, parse, type ParsedArgs, text, texts } from "../args.ts";
import { clientOf, onEveryNode } from "../clients.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { outputForm, render } from "../output.ts";
import { clusterFacts } from "./cluster_facts.ts";
import { endOf, type EndQuestions } from "./ends.ts";
import { explainConnection, type Explanation } from "./explanation.ts";
import type { PastQuestion } from "./past.ts";
import { readRequest } from "./request.ts";
import { explanationText } from "./text.ts";
import { nowS } from "../now.ts";

const HINT = "weir help explain";
const RESOLVE_MS_MAX = 2000;

/** Exit codes: what a script asks for. */
const ALLOWED = 0, DENIED = 3, FAILS = 4;

/** Runs the command: 0 allowed, 3 denied, 4 allowed and cannot work. */
export async function explainCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    from: { type: "string" },
    to: { type: "string" },
    port: { type: "string", short: "p" },
    direction: { type: "string" },
    namespace: { type: "string", short: "n" },
    manifest: { type: "boolean" },
    at: { type: "string" },
    flow: { type: "string" },
    http: { type: "string" },
    dns: { type: "string" },
    header: { type: "string", multiple: true },
    kafka: { type: "string" },
    "client-id": { type: "string" },
    cql: { type: "string" },
    keyspace: { type: "string" },
    memcache: { type: "string" },
    "server-name": { type: "string" },
    output: { type: "string", short: "o" },
  }, HINT);
  const requested = {
    http: text(parsed, "http"),
    dns: text(parsed, "dns"),
    headers: texts(parsed, "header"),
    kafka: text(parsed, "kafka"),
    clientId: text(parsed, "client-id"),
    cql: text(parsed, "cql"),
    keyspace: text(parsed, "keyspace"),
    memcache: text(parsed, "memcache"),
    serverName: text(parsed, "server-name"),
  };
  const request = readRequest(requested);
  const [from, to, port, at, flow] = ["from", "to", "port", "at", "flow"].map((name) => text(parsed, name));
  if (request !== undefined && (at ?? flow) !== undefined) {
    throw new UsageError("A request is judged by the rules of now: leave out --at and --flow", HINT);
  }
  if (flow !== undefined && (from ?? to ?? port) !== undefined) {
    throw new UsageError("--flow says who, to whom and which port: leave out --from, --to and --port", HINT);
  }
  if (flow !== undefined && parsed.positionals.length === 0) {
    return await explainThen({ at, flow, port: readPort("80"), portText: "" }, parsed, context);
  }
  if (from === undefined || to === undefined || port === undefined || parsed.positionals.length > 0) {
    throw new UsageError("Say --from, --to and --port, for example --port 80/TCP", HINT);
  }
  if (at !== undefined) {
    return await explainThen({ at, from, to, port: readPort(port), portText: port }, parsed, context);
  }
  const form = outputForm(text(parsed, "output"));
  const asked = {
    ...readPort(port),
    portText: port,
    direction: readDirection(text(parsed, "direction")),
    request,
    requestText: requested.http ?? requested.dns ?? requested.kafka ?? requested.cql ??
      requested.memcache ?? serverNameText(requested.serverName),
  };
  const namespace = text(parsed, "namespace") ?? "default";
  const facts = await clusterFacts(context);
  const questions = questionsOf(context);
  const source = await endOf(from, namespace, facts, questions);
  const destination = await endOf(to, namespace, facts, questions);
  const explanation = await explainConnection(
    { ...asked, from: { ...source, title: from }, to: { ...destination, title: to } },
    facts,
    context,
    nowS(),
  );
  context.io.out(shown(explanation, form, flag(parsed, "manifest")));
  return !explanation.allowed ? DENIED : explanation.works === false ? FAILS : ALLOWED;
}

function serverNameText(name: string | undefined): string | undefined {
  return name === "" ? "TLS without a server name" : name && `TLS to ${name}`;
}

/** By what held at another time. The way there is not kept: policy alone is judged. */
async function explainThen(
  question: Omit<PastQuestion, "direction" | "namespace">,
  parsed: ParsedArgs,
  context: CommandContext,
): Promise<number> {
  const form = outputForm(text(parsed, "output"));
  const { explainAt } = await import("./past.ts");
  const history = clientOf(context, "flow-history");
  try {
    const explanation = await explainAt({
      ...question,
      direction: readDirection(text(parsed, "direction")),
      namespace: text(parsed, "namespace") ?? "default",
    }, history);
    context.io.out(shown(explanation, form, flag(parsed, "manifest")));
    return explanation.allowed ? ALLOWED : DENIED;
  } finally {
    history.close();
  }
}

function shown(explanation: Explanation, form: ReturnType<typeof outputForm>, manifestOnly: boolean): string {
  if (manifestOnly) {
    return explanation.stages.map(({ manifest }) => manifest).filter((one) => one !== "").join("---\n");
  }
  const whole = { ...explanation, steps: explanation.steps.map((step) => ExplainStep.toJson(step)) };
  return form === "json" || form === "yaml" ? render([], [], form, whole) : explanationText(explanation);
}

function questionsOf(context: CommandContext): EndQuestions {
  return {
    // Only the nodes know their networks.
    isBroadcast: async (address) => {
      const answers = await onEveryNode(
        context,
        "datapath",
        (client) => client.call("/v1/maps/address", { method: "GET", response: MapDump }),
      );
      return answers.some((answer) =>
        "value" in answer &&
        answer.value.rows.some(({ fields }) => fields.address === address && fields.host === "broadcast")
      );
    },
    resolve: async (name) => {
      const signal = AbortSignal.timeout(RESOLVE_MS_MAX);
      const all = await Promise.all(
        (["A", "AAAA"] as const).map((type) => Deno.resolveDns(name, type, { signal }).catch(() => [])),
      );
      return all.flat();
    },
  };
}

/** `80/TCP`, `80` (TCP), `http/TCP`, `icmp` (echo request), `8/ICMP`, `128/ICMPv6`. */
export function readPort(text: string): { protocol: number; port?: number; portName?: string } {
  const [port, protocolText = /^icmp(v6)?$/i.test(text) ? text : "TCP"] = text.split("/");
  const protocol = PROTOCOL_NUMBERS[protocolText.toUpperCase()];
  if (protocol === undefined) {
    throw new UsageError(
      `Unknown protocol "${protocolText}": expected ${Object.keys(PROTOCOL_NUMBERS).join(", ")}`,
      HINT,
    );
  }
  if (port === protocolText) return { protocol, port: protocol === PROTOCOL_NUMBERS.ICMP ? 8 : 128 };
  if (/^[0-9]+$/.test(port)) {
    if (Number(port) > 65535) throw new UsageError(`Port ${port} is not between 0 and 65535`, HINT);
    return { protocol, port: Number(port) };
  }
  if (!/^[A-Za-z0-9-]{1,15}$/.test(port)) {
    throw new UsageError(`"${text}" is no port: expected for example 80/TCP`, HINT);
  }
  return { protocol, portName: port };
}

function readDirection(text: string | undefined): "DIRECTION_UNSPECIFIED" | "INGRESS" | "EGRESS" {
  if (text === undefined) return "DIRECTION_UNSPECIFIED";
  const direction = text.toUpperCase();
  if (direction === "INGRESS" || direction === "EGRESS") return direction;
  throw new UsageError(`Unknown direction "${text}": expected ingress or egress`, HINT);
}
