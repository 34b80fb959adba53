/** CiliumEndpointSlice: all endpoints of pods, up to a hundred in one object. @module */
import { RESOURCES } from "../api/mod.ts";
import { addressing, type PodEndpoint } from "./endpoint_join.ts";
import { NAMESPACE_LABEL } from "./identity_part.ts";
import { isWeirs, ObjectWriter, type Wanted } from "./object_writer.ts";
import type { Part, PartContext } from "./part.ts";
import { SliceBook } from "./slice_book.ts";
import type { Pace } from "./write_queue.ts";

/** A slice waits half a second for more changes, and ten are written each second. */
export const SLICE_PACE: Pace = { ratePerS: 10, burst: 10, parallelMax: 4, delayMs: 500 };
const SUFFIX_CHARS = 8, SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789";
const SERVICE_ACCOUNT_LABEL = "k8s:io.cilium.k8s.policy.serviceaccount=";

/** Writes the slices. */
export function endpointSlicePart(context: PartContext, pace = SLICE_PACE): Part {
  const { feeds, client, term } = context;
  const { endpoints } = feeds;
  const book = new SliceBook(sliceName);
  let isReady = false;
  const objects = new ObjectWriter(client, term, {
    ...context,
    resource: RESOURCES.CiliumEndpointSlice,
    fields: ["namespace", "endpoints"],
    wanted: (name) => {
      const slice = book.get(name);
      return slice &&
        wantedSlice(name, slice.namespace, [...slice.members].map((key) => endpoints.get(key)!));
    },
    keys: () => book.names(),
    isComplete: () => isReady,
    pace,
  });
  const { writer } = objects;
  const place = (key: string) => {
    const slice = endpoints.get(key) === undefined
      ? book.remove(key)
      : book.put(key, (name) => writer.isDue(name));
    if (slice !== undefined) writer.changed(slice);
  };
  feeds.listenEndpoints((key) => isReady && place(key));
  return {
    writers: [writer],
    needs: [feeds.ipcache],
    prepare() {
      for (const [name, observed] of writer.observed.entries()) {
        if (!isWeirs(observed) || observed.metadata.deletionTimestamp !== undefined) continue;
        const { namespace, endpoints: found } = observed.body;
        const keys = (Array.isArray(found) ? found : []).map((one) => `${namespace}/${one?.name}`);
        book.adopt(name, String(namespace), keys.filter((key) => endpoints.get(key) !== undefined));
      }
      for (const key of endpoints.keys()) book.put(key, () => false);
      isReady = true;
    },
  };
}

/** The object of a slice. Endpoints stand in the order of their names. */
export function wantedSlice(name: string, namespace: string, endpoints: readonly PodEndpoint[]): Wanted {
  return {
    metadata: { name, labels: { [NAMESPACE_LABEL]: namespace } },
    body: {
      namespace,
      endpoints: endpoints.map(coreEndpoint).sort((a, b) => a.name < b.name ? -1 : 1),
    },
  };
}

/** An endpoint as a slice has it. */
export function coreEndpoint(endpoint: PodEndpoint) {
  const { name, identity } = endpoint;
  return { name, id: identity, ...networkOf(endpoint) };
}

/** What slices and single endpoints say alike. */
export function networkOf({ addresses, nodeIpv4, nodeIpv6, namedPorts, labels }: PodEndpoint) {
  const account = labels.find((label) => label.startsWith(SERVICE_ACCOUNT_LABEL));
  return {
    networking: { addressing: addressing(addresses), node: nodeIpv4 || nodeIpv6 },
    encryption: { key: 0 },
    ...(namedPorts.length === 0
      ? {}
      : { "named-ports": namedPorts.map(({ name, port, protocol }) => ({ name, port, protocol })) }),
    ...(account === undefined ? {} : { "service-account": account.slice(SERVICE_ACCOUNT_LABEL.length) }),
  };
}

function sliceName(namespace: string): string {
  const bytes = crypto.getRandomValues(new Uint8Array(SUFFIX_CHARS));
  const suffix = Array.from(bytes, (byte) => SUFFIX_ALPHABET[byte % SUFFIX_ALPHABET.length]).join("");
  return `ces-${namespace}-${suffix}`;
}
