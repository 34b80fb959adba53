/**
 * `weir cluster init|join|token|certificate|leave|nodes|remove`: the machines of a cluster, and who else may ask it.
 *
 * @module
 */
import { CreateTokenRequest, CreateTokenResponse, Member, Token } from "@weir/proto/certificate";
import { Node } from "@weir/proto/identity";
import { type Clock, systemClock } from "@weir/common/clock";
import { noWords, parse, seconds, text } from "./args.ts";
import type { WeirClient } from "@weir/client";
import { clientOf } from "./clients.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { initCommand, joinCommand, leaveCommand } from "./join.ts";
import { type Column, outputForm, render } from "./output.ts";
import { unknownVerb } from "./suggestion.ts";

const HINT = "weir help cluster";

/** Runs the command. */
export async function clusterCommand(args: string[], context: CommandContext): Promise<number> {
  const [verb, ...rest] = args;
  switch (verb) {
    case "init":
      return await initCommand(rest, context);
    case "join":
      return await joinCommand(rest, context);
    case "leave":
      return await leaveCommand(rest, context);
    case "token":
      return await tokenCommand(rest, context);
    case "certificate":
      return await (await import("./cluster_certificate.ts")).certificateCommand(rest, context);
    case "nodes":
      return await nodesCommand(rest, context);
    case "remove":
      return await removeCommand(rest, context);
  }
  throw unknownVerb("cluster", verb, ["init", "join", "token", "certificate", "leave", "nodes", "remove"]);
}

interface Machine {
  readonly name: string;
  readonly member?: Member;
  readonly node?: Node;
}

function machineColumns(clock: Clock): Column<Machine>[] {
  return [
    { title: "NAME", cell: ({ name }) => name },
    { title: "ROLE", cell: ({ member }) => member?.role },
    { title: "STATE", cell: ({ member }) => stateOf(member, clock.nowMs()) },
    { title: "LAST HEARD", cell: ({ node }) => ago(node?.heartbeatUnixS, clock) },
    { title: "CERTIFICATE UNTIL", cell: ({ member }) => time(member?.expiresUnixS) },
    { title: "ADDRESS", cell: ({ node }) => [node?.ipv4, node?.ipv6].filter((one) => one).join(" ") },
    { title: "JOINED", cell: ({ member }) => time(member?.joinedUnixS), wide: true },
    { title: "LISTENS", cell: ({ member }) => member?.addresses.join(" "), wide: true },
  ];
}

async function nodesCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { output: { type: "string", short: "o" } }, HINT);
  noWords(parsed, HINT);
  const form = outputForm(text(parsed, "output"));
  const authority = clientOf(context, "certificate-authority"),
    allocator = clientOf(context, "identity-allocator");
  try {
    const [members, nodes] = await Promise.all([
      authority.collection("members", Member).list(),
      allocator.collection("nodes", Node).list(),
    ]);
    const names = new Set([...members.items, ...nodes.items].map(({ name }) => name));
    const machines = [...names].sort().map((name): Machine => ({
      name,
      member: members.items.find((member) => member.name === name),
      node: nodes.items.find((node) => node.name === name),
    }));
    const whole = machines.map(({ name, member, node }) => ({
      name,
      state: stateOf(member, systemClock.nowMs()),
      ...(member === undefined ? {} : { member: Member.toJson(member) }),
      ...(node === undefined ? {} : { node: Node.toJson(node) }),
    }));
    context.io.out(render(machines, machineColumns(systemClock), form, whole));
    return 0;
  } finally {
    authority.close();
    allocator.close();
  }
}

async function removeCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {}, HINT);
  const [name, ...more] = parsed.positionals;
  if (name === undefined || more.length > 0) throw new UsageError("Say the name of one machine", HINT);
  const authority = clientOf(context, "certificate-authority"),
    allocator = clientOf(context, "identity-allocator");
  try {
    // First it is refused, then its addresses and identities go: it cannot announce them again in between.
    const member = await authority.collection("members", Member).delete(name);
    const node = await allocator.collection("nodes", Node).delete(name);
    if (!member && !node) {
      throw new Error(`Cannot remove ${name}: there is no such machine; see weir cluster nodes`);
    }
    context.io.out(`${name} is removed: its certificate is refused, its addresses and identities are free\n`);
    return 0;
  } finally {
    authority.close();
    allocator.close();
  }
}

const TOKEN_COLUMNS: Column<Token>[] = [
  { title: "ID", cell: ({ id }) => id },
  { title: "KIND", cell: ({ kind }) => kind },
  { title: "ROLE", cell: ({ role }) => role },
  { title: "USES LEFT", cell: ({ kind, usesLeft }) => kind === "join" ? String(usesLeft) : undefined },
  { title: "UNTIL", cell: ({ expiresUnixS }) => time(expiresUnixS) },
  { title: "NAME", cell: ({ name }) => name },
];

async function tokenCommand(args: string[], context: CommandContext): Promise<number> {
  const [verb, ...rest] = args;
  const client = clientOf(context, "certificate-authority");
  try {
    if (verb === "list") return await listTokens(rest, context, client);
    if (verb === "revoke") return await revokeToken(rest, context, client);
    return await createToken(args, context, client);
  } finally {
    client.close();
  }
}

async function listTokens(args: string[], context: CommandContext, client: WeirClient): Promise<number> {
  const parsed = parse(args, { output: { type: "string", short: "o" } }, HINT);
  noWords(parsed, HINT);
  const form = outputForm(text(parsed, "output"));
  const { items } = await client.collection("tokens", Token).list();
  const shown = items.map((token) => ({ ...token, secretHash: new Uint8Array() }));
  context.io.out(render(shown, TOKEN_COLUMNS, form, shown.map((token) => Token.toJson(token))));
  return 0;
}

async function revokeToken(args: string[], context: CommandContext, client: WeirClient): Promise<number> {
  const [id, ...more] = parse(args, {}, HINT).positionals;
  if (id === undefined || more.length > 0) {
    throw new UsageError("Say the id of one token: weir cluster token list", HINT);
  }
  if (!await client.collection("tokens", Token).delete(id)) {
    throw new Error(`Cannot revoke ${id}: there is no such token; see weir cluster token list`);
  }
  context.io.out(`Token ${id} is good for nothing any more\n`);
  return 0;
}

async function createToken(args: string[], context: CommandContext, client: WeirClient): Promise<number> {
  const parsed = parse(args, {
    role: { type: "string" },
    uses: { type: "string" },
    expires: { type: "string" },
    name: { type: "string" },
  }, HINT);
  noWords(parsed, HINT);
  const role = text(parsed, "role") ?? "node", uses = text(parsed, "uses") ?? "1";
  if (!/^[1-9]\d{0,4}$/.test(uses)) throw new UsageError(`Cannot take ${uses} uses: expected a number`, HINT);
  const answer = await client.call("/v1/tokens", {
    request: {
      message: CreateTokenRequest,
      value: {
        kind: role === "admin" || role === "viewer" ? "access" : "join",
        role,
        uses: Number(uses),
        name: text(parsed, "name") ?? "",
        lifetimeS: seconds(text(parsed, "expires"), HINT),
      },
    },
    response: CreateTokenResponse,
  });
  // The token alone on stdout, so that it can go into a variable or a file.
  context.io.out(`${answer.text}\n`);
  if (!context.io.terminal) return 0;
  const how = answer.token!.kind === "join"
    ? `On the other machine: weir join TOKEN${
      role === "control-plane" ? " --control-plane --listen ADDRESS" : ""
    }`
    : "WEIR_TOKEN=TOKEN WEIR_CA=ca.crt weir --server https://ADDRESS:7442 policy list";
  context.io.err(`Good until ${time(answer.token!.expiresUnixS)}; it is not shown again. ${how}\n`);
  return 0;
}

function stateOf(member: Member | undefined, nowMs: number): string {
  if (member === undefined) return "no certificate";
  if (member.issuedUnixS <= member.removedUnixS) return "removed";
  return member.expiresUnixS * 1000 <= nowMs ? "expired" : "member";
}

function time(unixS: number | undefined): string {
  return !unixS ? "" : new Date(unixS * 1000).toISOString().slice(0, 16).replace("T", " ") + "Z";
}

function ago(unixS: number | undefined, clock: Clock): string {
  if (!unixS) return "";
  const s = Math.max(0, Math.round(clock.nowMs() / 1000 - unixS));
  return s < 120 ? `${s}s ago` : s < 7200 ? `${Math.round(s / 60)}m ago` : `${Math.round(s / 3600)}h ago`;
}
