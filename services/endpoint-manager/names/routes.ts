/** The socket of names: for the L7 proxy alone; and what everybody may read. @module */
import type { ApiServer, MetricsRegistry } from "@weir/common";
import { FqdnIdentity, KnownName, LearnedNames, LearnedNamesResponse } from "@weir/proto/endpoint";
import type { NodeNames } from "./node_names.ts";

/** Largest request: a thousand names with their addresses. */
const REQUEST_BYTES_MAX = 4 << 20;

/** Adds the route by which names are learnt to a server that nobody else may use. */
export function mountLearning(api: ApiServer, names: NodeNames): void {
  api.action({
    path: "/v1/names",
    request: LearnedNames,
    response: LearnedNamesResponse,
    bodyBytesMax: REQUEST_BYTES_MAX,
    handle: async (learned) => {
      await names.learn(learned);
      return {};
    },
    description: "Addresses of names that endpoints have heard; answered when they are in force",
  });
}

/** Adds what names there are. */
export function mountNames(api: ApiServer, names: NodeNames): void {
  api.collection<KnownName>({
    name: "names",
    message: KnownName,
    table: names.shown,
    filters: {
      endpoint: (text) => ({ endpoint }) => endpoint === Number(text),
      query: (text) => ({ query }) => query === text,
    },
    description:
      "Names that endpoints of this node know addresses of, until when, and the identities of these",
  });
  api.collection<FqdnIdentity>({
    name: "fqdnidentities",
    message: FqdnIdentity,
    table: names.shownIdentities,
    description: "Identities that addresses have on this node because of their names",
  });
  mountMetrics(api.metrics, names);
}

function mountMetrics(metrics: MetricsRegistry, names: NodeNames): void {
  metrics.gauge("weir_names", "Addresses of names that endpoints of this node know").collect(() =>
    names.pairs
  );
  metrics.gauge(
    "weir_names_evicted",
    "Addresses of names that went since the start because there were too many",
  )
    .collect(() => names.evicted);
  metrics.gauge("weir_names_pending", "Addresses of names that are not in force yet")
    .collect(() => names.order.pending);
  metrics.gauge("weir_fqdn_identities", "Identities that addresses have because of their names")
    .collect(() => names.order.identities.size);
  metrics.gauge(
    "weir_names_learned",
    "Names that were learnt since the start, by what came of it (not_kept: in force, but not on disk)",
  ).collect(() => {
    const { learned, failed, notKept } = names.counts;
    return [[{ result: "ok" }, learned], [{ result: "failed" }, failed], [{ result: "not_kept" }, notKept]];
  });
}
