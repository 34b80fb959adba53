/**
 * Policies tried on the history: its connections are judged by the policies that are in force, and by these and the new ones. What judges is the
 * policy engine's own code, in a repository that ends with the answer.
 * @module
 */
import type { WeirClient } from "@weir/client";
import { ProblemError } from "@weir/common";
import { formatFault, MANIFEST_BYTES_MAX } from "@weir/common/manifest";
import type { Preview } from "@weir/policy-engine/recorded";
import type { Init } from "@weir/proto";
import type { ConnectionPage, PreviewAnswer, PreviewRequest } from "@weir/proto/history";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { Policy } from "@weir/proto/policy";

/** Bytes of a request. */
export const PREVIEW_BYTES_MAX = 8 * MANIFEST_BYTES_MAX;
/** Connections that are read, the newest; the answer says when there are more. */
export const PREVIEW_CONNECTIONS_MAX = 200_000;
/** Of one policy's map in the kernel. */
const ENTRIES_MAX = 1 << 20;
const SINCE_DEFAULT = "24h", PAGE = "1000";
/** Of faults and doubts as many are named one by one. */
const NAMED_MAX = 20;

/** Who knows the policies in force, and who is there. */
export interface PreviewSources {
  readonly allocator: WeirClient;
  readonly policyEngine: WeirClient;
}

/** And the history's own. */
export interface PreviewParts extends PreviewSources {
  /** A page of `GET /v1/connections`. */
  readonly connections: (query: URLSearchParams) => Promise<Init<ConnectionPage>>;
}

/**
 * @throws {ProblemError} POLICY_INVALID with every fault, PREVIEW_INVALID, NOTHING_RECORDED; QUERY_INVALID for a time that is none; what the policy
 * engine or the allocator says
 */
export async function preview(request: PreviewRequest, parts: PreviewParts): Promise<Init<PreviewAnswer>> {
  const recorded = await import("@weir/policy-engine/recorded");
  const { policyEntriesMax: entriesMax } = request;
  if (entriesMax > ENTRIES_MAX) {
    throw new ProblemError("PREVIEW_INVALID", {
      status: 400,
      detail: `Cannot take ${entriesMax} entries of a policy`,
      expected: `at most ${ENTRIES_MAX}`,
    });
  }
  const recorder = new recorded.FlowRecorder(), reader = new recorded.ConnectionReader(recorder);
  const { completeness, isComplete } = await read(request, parts, (page) => {
    for (const connection of page.connections ?? []) {
      reader.add(connection as Parameters<typeof reader.add>[0]);
    }
  });
  const cluster = request.cluster || recorded.clusterOf(recorder.book.ends) || "default";
  const policies = await policiesOf(request, cluster);
  if (recorder.connections.length === 0) {
    throw new ProblemError("NOTHING_RECORDED", {
      status: 404,
      detail: `There is no connection to judge since ${request.since || SINCE_DEFAULT}`,
      action: "Ask for a longer time, or look whether flows come: weir status",
    });
  }
  const state = await clusterNow(parts);
  const { policies: inForce, unread } = recorded.readStoredPolicies(state.policies, cluster);
  const repository = recorded.newRepository();
  const unreadIdentities = recorded.addIdentities(repository, state, cluster);
  for (const policy of inForce) repository.upsertPolicy(policy);
  const judged = new recorded.JudgedCluster(repository, recorder.book, {
    cluster,
    portsOf: recorded.portsOfNow(state),
  });
  const found = await recorded.previewPolicies(judged, recorder.connections, policies, {
    basis: "policies",
    entriesMax: entriesMax || undefined,
    hosted: recorded.hostedOf(state, repository),
    // Flows are taken in meanwhile, and others are answered.
    pause: () => new Promise((resolve) => setTimeout(resolve, 0)),
  });
  return {
    ...answerOf(found),
    record: {
      completeness,
      complete: isComplete,
      connections: recorder.connections.reduce((sum, { passed, denied }) => sum + passed + denied, 0),
      kinds: recorder.connections.length,
      leftOut: Object.fromEntries(recorder.leftOut),
      icmpTakenForEcho: reader.echoes,
      unreadEnds: reader.unread,
    },
    warnings: [
      ...unread.slice(0, NAMED_MAX).map((text) => `a policy in force cannot be read: ${text}`),
      ...unread.length > NAMED_MAX ? [`and ${unread.length - NAMED_MAX} more`] : [],
      ...unreadIdentities > 0 ? [`the labels of ${unreadIdentities} identities cannot be read`] : [],
    ],
  };
}

function answerOf({ changes, counts, maps, policies }: Preview): Init<PreviewAnswer> {
  return {
    changes: changes.map((one) => ({ ...one, rules: [...one.rules], before: [...one.before] })),
    counts,
    maps: {
      ...maps,
      nodes: [...maps.nodes],
      tooLarge: maps.tooLarge.map((one) => ({ ...one, rules: [...one.rules] })),
    },
    policies: [...policies],
  };
}

/** Reads the newest connections of the window. */
async function read(
  { since, until }: PreviewRequest,
  { connections }: PreviewParts,
  take: (page: Init<ConnectionPage>) => void,
): Promise<{ completeness: Init<ConnectionPage>["completeness"]; isComplete: boolean }> {
  let completeness: Init<ConnectionPage>["completeness"], count = 0, after = "";
  do {
    const query = new URLSearchParams({ since: since || SINCE_DEFAULT, limit: PAGE, after });
    if (until !== "") query.set("until", until);
    const page = await connections(query);
    completeness ??= page.completeness;
    count += page.connections?.length ?? 0;
    take(page);
    after = page.next ?? "";
  } while (after !== "" && count < PREVIEW_CONNECTIONS_MAX);
  return { completeness, isComplete: after === "" };
}

async function policiesOf({ texts, namespace }: PreviewRequest, cluster: string) {
  const { readInventory } = await import("@weir/policy-engine/offline");
  const { policies, faults } = readInventory(texts, { cluster, namespace: namespace || undefined });
  if (faults.length > 0) {
    const named = faults.slice(0, NAMED_MAX).map((fault) => formatFault(fault, fault.file));
    const more = faults.length > NAMED_MAX ? [`and ${faults.length - NAMED_MAX} more`] : [];
    throw new ProblemError("POLICY_INVALID", {
      status: 422,
      detail: ["Cannot judge these policies:", ...named, ...more].join("\n"),
    });
  }
  if (policies.length === 0) {
    throw new ProblemError("POLICY_INVALID", {
      status: 422,
      detail: "Cannot judge policies: the texts hold none",
      expected: "at least one policy",
    });
  }
  return policies;
}

async function clusterNow({ policyEngine, allocator }: PreviewSources) {
  const [policies, identities, addresses] = await Promise.all([
    policyEngine.collection("policies", Policy).list(),
    allocator.collection("identities", Identity).list(),
    allocator.collection("ipcache", IpcacheEntry).list(),
  ]);
  return { policies: policies.items, identities: identities.items, addresses: addresses.items };
}
