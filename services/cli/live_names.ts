/**
 * `weir completion names KIND`: names of what is there now, for completion in shells. Who does not answer has none; it ends
 * within a second whatever hangs and says no error: a person presses Tab and waits.
 *
 * @module
 */
import type { WeirClient } from "@weir/client";
import { Endpoint } from "@weir/proto/endpoint";
import { clientOf } from "./clients.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { question } from "@weir/client/status";
import { didYouMean } from "./suggestion.ts";

const ANSWER_MS_MAX = 1000;

/** Shells expand what completion offers: a name with more than this is not offered. */
const SAFE = /^[\w./:@-]+$/;

type Kind = (context: CommandContext) => Promise<string[]>;

/** Words of filters, which are the same everywhere. */
const FLOW_WORDS: Readonly<Record<string, () => Promise<string[]>>> = {
  verdicts: async () => Object.keys((await import("@weir/proto/flow")).VerdictNumber).slice(1),
  "drop-reasons": async () => (await import("@weir/proto/numbers")).DROP_REASONS.map(({ name }) => name),
  "reserved-identities": async () => Object.keys((await import("@weir/common/identity")).RESERVED_IDENTITIES),
  "event-types": async () => {
    const { TRACE_POINTS, TROUBLES } = await import("@weir/proto/numbers");
    return [
      ...["capture", "drop", "l7", "policy-verdict", "trace", "trace-sock", "trouble"],
      ...TRACE_POINTS.map(({ text }) => `trace:${text}`),
      ...TROUBLES.map(({ text }) => text),
    ];
  },
  protocols: () =>
    Promise.resolve([
      "tcp",
      "udp",
      "icmp",
      "icmpv4",
      "icmpv6",
      "sctp",
      "vrrp",
      "igmp",
      "dns",
      "http",
      "kafka",
    ]),
  "group-keys": async () =>
    (await import("./observe/groups.ts")).GROUP_KEYS.filter((key) => !key.includes("KEY")),
  "time-formats": async () => [...(await import("./observe/time_text.ts")).TIME_FORMATS],
};

/** Kinds of names. */
export const LIVE_KINDS: Readonly<Record<string, Kind>> = {
  endpoints: endpointNames,
  policies: async (context) => {
    const { Policy } = await import("@weir/proto/policy");
    const policies = await ask(
      clientOf(context, "policy-engine"),
      async (client) => (await client.collection("policies", Policy).list()).items,
    );
    return policies.map(({ namespace, policyName }) =>
      namespace === "" ? policyName : `${namespace}/${policyName}`
    );
  },
  services: async (context) => {
    const { Service } = await import("@weir/proto/loadbalancer");
    const services = await ask(
      clientOf(context, "load-balancer"),
      async (client) => (await client.collection("services", Service).list()).items,
    );
    return services.filter(({ type }) => type !== "HostPort").map(({ name }) => name);
  },
  nodes: (context) => Promise.resolve(context.nodes().map(({ node }) => node)),
  labs: (context) => Promise.resolve(context.run.labs().map(({ name }) => name)),
  namespaces: async (context) => {
    const names = await endpointNames(context);
    return names.filter((name) => name.includes("/")).map((name) => name.slice(0, name.indexOf("/")));
  },
  ...Object.fromEntries(
    Object.keys(FLOW_WORDS).map((kind): [string, Kind] => [kind, () => FLOW_WORDS[kind]()]),
  ),
  logs: async (context) => [...context.nodes().map(({ node }) => node), ...await endpointNames(context)],
};

/** Prints the names of one kind, one a line. */
export async function printLiveNames(kind: string | undefined, context: CommandContext): Promise<number> {
  const kinds = Object.keys(LIVE_KINDS);
  if (kind === undefined || !Object.hasOwn(LIVE_KINDS, kind)) {
    throw new UsageError(
      `Unknown kind "${kind ?? ""}"${didYouMean(kind ?? "", kinds)}: expected ${kinds.join(", ")}`,
      "weir help completion",
    );
  }
  const names = await LIVE_KINDS[kind](context).catch((): string[] => []);
  for (const name of [...new Set(names)].sort().filter((name) => SAFE.test(name))) {
    context.io.out(`${name}\n`);
  }
  return 0;
}

async function endpointNames(context: CommandContext): Promise<string[]> {
  const lists = await Promise.all(
    context.nodes().map((target) =>
      ask(
        clientOf(context, "endpoint-manager", target),
        async (client) => (await client.collection("endpoints", Endpoint).list()).items,
      )
    ),
  );
  return lists.flat().map(({ name }) => name);
}

async function ask<T>(client: WeirClient, list: (client: WeirClient) => Promise<T[]>): Promise<T[]> {
  const answer = await question(client, list, ANSWER_MS_MAX);
  return answer.kind === "answered" ? answer.value : [];
}
