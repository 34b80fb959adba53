/** CiliumEndpoint: one object for each pod, where that is asked for. It goes with its pod. @module */
import { RESOURCES } from "../api/mod.ts";
import type { PodEndpoint } from "./endpoint_join.ts";
import { networkOf } from "./endpoint_slice_part.ts";
import { ObjectWriter, type Wanted } from "./object_writer.ts";
import type { Part, PartContext } from "./part.ts";
import type { Pace } from "./write_queue.ts";

/** Ten times what slices need, and ten times as slow for it. */
export const ENDPOINT_PACE: Pace = { ratePerS: 50, burst: 100, parallelMax: 8, delayMs: 500 };

/** Writes single endpoints. */
export function endpointPart(context: PartContext, pace = ENDPOINT_PACE): Part {
  const { feeds, client, term } = context;
  const { endpoints, pods } = feeds;
  const objects = new ObjectWriter(client, term, {
    ...context,
    resource: RESOURCES.CiliumEndpoint,
    fields: ["status"],
    wanted: (key) => wantedEndpoint(endpoints.get(key), pods.get(key)?.uid),
    keys: () => endpoints.keys(),
    isComplete: () => feeds.ipcache.synced && pods.synced,
    pace,
  });
  feeds.listenEndpoints((key) => objects.writer.changed(key));
  pods.listen((key, value, previous) => {
    if (value?.uid !== previous?.uid) objects.writer.changed(key);
  });
  return { writers: [objects.writer], needs: [feeds.ipcache, pods] };
}

/** The object of an endpoint; undefined while nobody knows its pod, without which nothing would delete it. */
export function wantedEndpoint(
  endpoint: PodEndpoint | undefined,
  podUid: string | undefined,
): Wanted | undefined {
  if (endpoint === undefined || podUid === undefined) return undefined;
  const { namespace, name, identity, labels } = endpoint;
  return {
    metadata: {
      name,
      namespace,
      ownerReferences: [{ apiVersion: "v1", kind: "Pod", name, uid: podUid }],
    },
    body: {
      status: { identity: { id: identity, labels: [...labels] }, state: "ready", ...networkOf(endpoint) },
    },
  };
}
