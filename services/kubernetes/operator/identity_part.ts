/** CiliumIdentity: the numbers that the identity allocator gave. @module */
import type { Identity } from "@weir/proto/identity";
import { RESOURCES } from "../api/mod.ts";
import { ObjectWriter, type Wanted } from "./object_writer.ts";
import type { Part, PartContext } from "./part.ts";
import type { Pace } from "./write_queue.ts";

/** First number that is allocated; those before it are the same everywhere, and no objects. */
const NUMBER_MIN = 256;
const PACE: Pace = { ratePerS: 20, burst: 40, parallelMax: 4, delayMs: 200 };
/** What a database forgot for a moment, and has again, is not deleted and made anew. */
const DELETE_DELAY_MS = 30_000;
/** Label of objects that are of one namespace, by which people select them. */
export const NAMESPACE_LABEL = "io.kubernetes.pod.namespace";

/** Writes the identities. */
export function identityPart(context: PartContext): Part {
  const { feeds, client, term } = context;
  const { identities } = feeds;
  const objects = new ObjectWriter(client, term, {
    ...context,
    resource: RESOURCES.CiliumIdentity,
    fields: ["security-labels"],
    wanted: (key) => wantedIdentity(identities.get(key)),
    keys: () => identities.list().map(({ number }) => String(number)),
    isComplete: () => identities.synced,
    pace: PACE,
    deleteDelayMs: DELETE_DELAY_MS,
  });
  identities.listen((name) => objects.writer.changed(name));
  return { writers: [objects.writer], needs: [identities] };
}

/** The object of an identity; undefined where it has none. */
export function wantedIdentity(identity: Identity | undefined): Wanted | undefined {
  if (identity === undefined || identity.number < NUMBER_MIN) return undefined;
  const labels: Record<string, string> = {};
  for (const label of identity.labels) {
    const at = label.indexOf("=");
    if (at < 0) labels[label] = "";
    else labels[label.slice(0, at)] = label.slice(at + 1);
  }
  const namespace = labels[`k8s:${NAMESPACE_LABEL}`];
  return {
    metadata: {
      name: String(identity.number),
      labels: namespace === undefined ? {} : { [NAMESPACE_LABEL]: namespace },
    },
    body: { "security-labels": labels },
  };
}
