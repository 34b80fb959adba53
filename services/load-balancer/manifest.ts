/**
 * From a text of manifests to services, slices and pools: all documents, all faults, and what is said but not honoured.
 * @module
 */
import type { ProblemError } from "@weir/common";
import {
  type Fault,
  faultProblem,
  kindsTakenBy,
  type KindTakenBy,
  type ManifestObject,
  type ObjectSyntax,
  readObjects,
} from "@weir/common/manifest";
import type { PoolSpec, ServiceSpec, SliceSpec } from "./model.ts";
import { readPool } from "./pool_manifest.ts";
import { readService } from "./service_manifest.ts";
import { readEndpoints, readEndpointSlice } from "./slice_manifest.ts";

/** Largest text, most documents and values: 10,000 services in one text are welcome. */
export const LB_MANIFEST_LIMITS = { bytesMax: 32 * 1024 * 1024, documentsMax: 20_000, nodesMax: 4_000_000 };

/** Where an object stands. */
interface Placed {
  /** The object's own text. */
  readonly manifest: string;
  readonly line: number;
  readonly warnings: readonly string[];
}

/** One object of a text. */
export type LbObject =
  & Placed
  & (
    | { readonly kind: "Service"; readonly name: string; readonly spec: ServiceSpec }
    | { readonly kind: "EndpointSlice" | "Endpoints"; readonly name: string; readonly spec: SliceSpec }
    | { readonly kind: "AddressPool"; readonly name: string; readonly spec: PoolSpec }
    | { readonly kind: "ignored"; readonly name: string; readonly of: string; readonly spec: undefined }
  );

/** What a text holds. */
export interface LbManifests {
  readonly objects: readonly LbObject[];
  readonly faults: readonly Fault[];
  readonly faultsOmitted: number;
}

/** Options of {@link readManifests}. */
export interface ReadOptions {
  file?: string;
  /** Line of that file on which the text begins; default 1. */
  line?: number;
  /** Namespace of documents that name none; default `default`. */
  namespace?: string;
}

type LbKind = KindTakenBy<"load-balancer">;
type WithoutPlace<T> = T extends unknown ? Omit<T, keyof Placed> : never;
type Read = WithoutPlace<LbObject>;
type Decoder = (object: ManifestObject<LbKind>) => Read | undefined;

/** How each kind is read; the registry's every kind of the load balancer has one. */
const DECODERS: Readonly<Record<LbKind, Decoder>> = {
  Service: (object) => {
    const spec = readService(object);
    return spec && { kind: "Service", name: `${object.namespace}/${object.name}`, spec };
  },
  EndpointSlice: (object) => {
    const spec = readEndpointSlice(object);
    return spec && { kind: "EndpointSlice", name: `${object.namespace}/${object.name}`, spec };
  },
  Endpoints: (object) => {
    const spec = readEndpoints(object);
    return spec && { kind: "Endpoints", name: `${object.namespace}/${object.name}`, spec };
  },
  CiliumLoadBalancerIPPool: readAddressPool,
  AddressPool: readAddressPool,
};

const SYNTAX: ObjectSyntax<LbKind, Read> = {
  kinds: kindsTakenBy("load-balancer"),
  decode: (object) => DECODERS[object.kind](object),
  unknownKind: (found) => `${found} is not for the load balancer`,
  skip: ({ kind, name }) => ({ kind: "ignored", name, of: kind, spec: undefined }),
  lenient: true,
  quickJson: true,
  limits: LB_MANIFEST_LIMITS,
};

/** Reads every document. Pure: the same text gives the same result. */
export function readManifests(text: string, options: ReadOptions = {}): LbManifests {
  const { objects, faults, faultsOmitted } = readObjects(text, SYNTAX, options);
  return {
    objects: objects.map(({ value, text, line, warnings }) => ({
      ...value,
      manifest: text.trimEnd(),
      line,
      warnings: warnings.map(({ line, path, detail }) =>
        `line ${line}${path === "" ? "" : ` ${path}`}: ${detail}`
      ),
    })),
    faults,
    faultsOmitted,
  };
}

function readAddressPool(object: ManifestObject<LbKind>): Read | undefined {
  const spec = readPool(object);
  return spec && { kind: "AddressPool", name: object.name, spec };
}

/** The faults of a text as the one error that is answered. */
export function manifestProblem(manifests: LbManifests, file = ""): ProblemError {
  return faultProblem(manifests, {
    code: "SERVICE_INVALID",
    title: "Service refused",
    what: "services",
    file,
  });
}
