/**
 * `weir policy explain`: which entry decides, which rule and labels made it, what would flip it.
 *
 * @module
 */
import { IpAddress, PROTOCOL_NUMBERS, reservedIdentityNumber } from "@weir/common";
import type { Init } from "@weir/proto";
import { MapDump } from "@weir/proto/datapath";
import { IpcacheEntry } from "@weir/proto/identity";
import { ExplainRequest, ExplainResponse, type ExplainStep } from "@weir/proto/policy";
import { parse, text } from "./args.ts";
import { clientOf, onEveryNode } from "./clients.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { outputForm, render } from "./output.ts";

const HINT = "weir help policy";

/** One end as the engine is asked about it. */
interface End {
  readonly labels?: string[];
  readonly identity?: number;
  readonly ip?: string;
  readonly namedPorts?: IpcacheEntry["namedPorts"];
}

/** Runs the command: 0 allowed, 3 denied. */
export async function explain(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    from: { type: "string" },
    to: { type: "string" },
    port: { type: "string", short: "p" },
    direction: { type: "string" },
    namespace: { type: "string", short: "n" },
    output: { type: "string", short: "o" },
  }, HINT);
  const [from, to, port] = ["from", "to", "port"].map((name) => text(parsed, name));
  if (from === undefined || to === undefined || port === undefined || parsed.positionals.length > 0) {
    throw new UsageError("Say --from, --to and --port, for example --port 80/TCP", HINT);
  }
  const namespace = text(parsed, "namespace") ?? "default";
  const form = outputForm(text(parsed, "output"));
  const request: Init<ExplainRequest> = {
    ...readPort(port),
    direction: readDirection(text(parsed, "direction")),
  };
  const source = await endOf(from, namespace, context);
  const destination = await endOf(to, namespace, context);
  const client = clientOf(context, "policy-engine");
  try {
    const answer = await client.call("/v1/explain", {
      request: {
        message: ExplainRequest,
        value: {
          ...request,
          fromLabels: source.labels,
          fromIdentity: source.identity,
          fromIp: source.ip,
          toLabels: destination.labels,
          toIdentity: destination.identity,
          toIp: destination.ip,
          toNamedPorts: destination.namedPorts,
        },
      },
      response: ExplainResponse,
    });
    if (form === "json" || form === "yaml") {
      context.io.out(render([], [], form, ExplainResponse.toJson(answer)));
    } else context.io.out(explanation(`${from} -> ${to} ${port}`, answer));
    return answer.allowed ? 0 : 3;
  } finally {
    client.close();
  }
}

/** The answer as people read it. */
export function explanation(title: string, answer: ExplainResponse): string {
  const lines = [`${title}: ${answer.allowed ? "ALLOWED" : "DENIED"}`];
  for (const step of answer.steps) lines.push("", ...stepLines(step));
  return lines.join("\n") + "\n";
}

function stepLines(step: ExplainStep): string[] {
  const where = step.direction === "EGRESS" ? "egress at the source" : "ingress at the destination";
  const lines = [`${where}: ${step.allowed ? "allowed" : "denied"}`, `  ${step.reason}`];
  for (const fact of step.labelFacts) lines.push(`  because   ${fact}`);
  if (step.flip !== "") lines.push(`  to flip   ${step.flip}`);
  return lines;
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

/**
 * One end: an address, `identity:N`, a reserved name (`world`, `host`), labels (`app=web,k8s:tier=front`), or the name of
 * an endpoint, for a pod `NAMESPACE/POD` or `POD`.
 */
async function endOf(name: string, namespace: string, context: CommandContext): Promise<End> {
  if (IpAddress.tryParse(name)) {
    return await isBroadcast(name, context)
      ? { identity: reservedIdentityNumber("broadcast") }
      : { ip: name };
  }
  const numbered = /^identity:([0-9]+)$/.exec(name);
  if (numbered) return { identity: Number(numbered[1]) };
  if (name.includes("=")) return { labels: name.split(",").map((label) => label.trim()) };
  const entry = await findEndpoint(name, namespace, context);
  if (entry) return { identity: entry.identity, namedPorts: entry.namedPorts };
  const reserved = name === "world" ? reservedIdentityNumber("world-ipv4") : reservedIdentityNumber(name);
  if (reserved) return { identity: reserved };
  throw new UsageError(
    `Cannot find "${name}": it is no endpoint, address, reserved name (world, host), identity:N or list of labels`,
    "weir endpoint list",
  );
}

/** Whether an address means everybody in a network of a node: only the nodes know their networks. */
async function isBroadcast(address: string, context: CommandContext): Promise<boolean> {
  const answers = await onEveryNode(
    context,
    "datapath",
    (client) => client.call("/v1/maps/address", { method: "GET", response: MapDump }),
  );
  return answers.some((answer) =>
    "value" in answer &&
    answer.value.rows.some(({ fields }) => fields.address === address && fields.host === "broadcast")
  );
}

async function findEndpoint(
  name: string,
  namespace: string,
  context: CommandContext,
): Promise<IpcacheEntry | undefined> {
  const client = clientOf(context, "identity-allocator");
  try {
    const { items } = await client.collection("ipcache", IpcacheEntry).list();
    const exact = (entry: IpcacheEntry) =>
      entry.endpoint === name || (entry.podName !== "" && `${entry.namespace}/${entry.podName}` === name);
    const short = (entry: IpcacheEntry) => entry.podName === name && entry.namespace === namespace;
    const anywhere = items.filter((entry) => entry.podName === name);
    const identities = new Set(anywhere.map((entry) => `${entry.namespace}/${entry.podName}`));
    const found = items.find(exact) ?? items.find(short);
    if (found || identities.size === 0) return found;
    if (identities.size === 1) return anywhere[0];
    throw new UsageError(`"${name}" may be ${[...identities].join(" or ")}: say which`, HINT);
  } finally {
    client.close();
  }
}
