/**
 * From a text to the objects in it: documents, lists of objects, kind, apiVersion, name and namespace, one name once.
 * What is inside an object its service decodes.
 * @module
 */
import {
  describe,
  DOCUMENTS_MAX,
  type ManifestDocument,
  type ManifestLimits,
  type ManifestNode,
  readDocuments,
  toValue,
} from "./document.ts";
import { type Fault, FaultList, type Place } from "./fault.ts";
import { readJsonDocuments } from "./json_document.ts";
import { findKind, type ManifestKind, type ManifestKindName, manifestObjectName } from "./kind.ts";
import { ManifestReader, nearest } from "./reader.ts";

/** Something that an object says and that has another effect than it seems, or none. */
export interface ManifestWarning {
  readonly line: number;
  readonly path: string;
  readonly detail: string;
}

/** Where an object stands. */
export interface PlacedObject {
  /** The object's own text. */
  readonly text: string;
  /** Its first line in the file, from 1. */
  readonly line: number;
}

/** An object for its decoder, which says what is wrong to `reader`. */
export interface ManifestObject<Kind extends ManifestKindName = ManifestKindName> extends PlacedObject {
  readonly kind: Kind;
  /** `metadata.name`. */
  readonly name: string;
  /** `""` for a clusterwide kind. */
  readonly namespace: string;
  /** {@link manifestObjectName} */
  readonly objectName: string;
  readonly root: ManifestNode;
  readonly metadata: ManifestNode | undefined;
  readonly reader: ManifestReader;
  readonly warn: (place: { line: number; path: string }, detail: string) => void;
}

/** A decoded object. */
export interface ReadObject<Value> extends PlacedObject {
  readonly value: Value;
  readonly warnings: readonly ManifestWarning[];
}

/** An object of a kind that this service does not take. */
export interface SkippedObject {
  readonly kind: string;
  /** `metadata.name` as it stands there, `?` without one. */
  readonly name: string;
}

/** How a service reads objects. */
export interface ObjectSyntax<Kind extends ManifestKindName, Value> {
  /** The kinds that it takes. */
  readonly kinds: readonly Kind[];
  /** The value of an object; undefined after a fault. Not called twice for one object. */
  readonly decode: (object: ManifestObject<Kind>) => Value | undefined;
  /** What is said of a kind that is not taken, before the kinds that are: `"Job" is no policy`. */
  readonly unknownKind: (found: string) => string;
  /** The value of an object of a kind that is not taken, with a warning; without it that is a fault. */
  readonly skip?: (object: SkippedObject) => Value;
  /** Fields that nobody knows are a warning; else a fault. */
  readonly lenient?: boolean;
  /** JSON is read quickly, and with places only where there is something to say. */
  readonly quickJson?: boolean;
  readonly limits?: ManifestLimits;
}

/** Options of {@link readObjects}. */
export interface ReadObjectsOptions {
  /** Line of the file on which the text begins; default 1. */
  readonly line?: number;
  /** Namespace of objects that name none; default `default`. */
  readonly namespace?: string;
}

/** What a text holds. */
export interface ReadObjects<Value> {
  /** In the order of the text. Objects with faults are not among them. */
  readonly objects: readonly ReadObject<Value>[];
  readonly faults: readonly Fault[];
  /** Faults that are not listed because there are too many. */
  readonly faultsOmitted: number;
}

/** Fields of every Kubernetes object's metadata; most say nothing to us. */
const METADATA_FIELDS = [
  "name",
  "namespace",
  "labels",
  "annotations",
  "uid",
  "resourceVersion",
  "generation",
  "generateName",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "managedFields",
  "ownerReferences",
  "finalizers",
  "selfLink",
];

/** A name of Kubernetes objects. */
const OBJECT_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const SHORT_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** Reads every document. Pure: the same text gives the same result. Never throws. */
export function readObjects<Kind extends ManifestKindName, Value>(
  text: string,
  syntax: ObjectSyntax<Kind, Value>,
  options: ReadObjectsOptions = {},
): ReadObjects<Value> {
  const { limits = {} } = syntax, { line = 1 } = options;
  if (syntax.quickJson && text.length <= (limits.bytesMax ?? 0)) {
    const quick = readJsonDocuments(text, line);
    if (quick !== undefined && quick.length <= (limits.documentsMax ?? DOCUMENTS_MAX)) {
      const found = new TextReader(new FaultList(), syntax, options).read(quick);
      const silent = found.faults.length === 0 &&
        found.objects.every(({ warnings }) => warnings.length === 0);
      if (silent) return found;
    }
  }
  const faults = new FaultList();
  return new TextReader(faults, syntax, options).read(readDocuments(text, faults, line, limits));
}

class TextReader<Kind extends ManifestKindName, Value> {
  readonly #faults: FaultList;
  readonly #syntax: ObjectSyntax<Kind, Value>;
  readonly #options: ReadObjectsOptions;
  /** Line by name. */
  readonly #seen = new Map<string, number>();

  constructor(faults: FaultList, syntax: ObjectSyntax<Kind, Value>, options: ReadObjectsOptions) {
    this.#faults = faults;
    this.#syntax = syntax;
    this.#options = options;
  }

  read(documents: readonly ManifestDocument[]): ReadObjects<Value> {
    const objects: ReadObject<Value>[] = [];
    for (const document of documents) {
      for (const root of this.#unfoldList(document.root)) {
        const placed = root === document.root
          ? { text: document.text, line: document.line }
          : { text: JSON.stringify(toValue(root)), line: root.line };
        const object = this.#readObject(root, placed);
        if (object !== undefined) objects.push(object);
      }
    }
    return { objects, faults: this.#faults.faults, faultsOmitted: this.#faults.omitted };
  }

  /** The items of a list of a known kind, or the document itself. */
  #unfoldList(root: ManifestNode): readonly ManifestNode[] {
    const kind = root.fields.get("kind")?.value.scalar;
    if (typeof kind !== "string" || !kind.endsWith("List")) return [root];
    if (kind !== "List" && findKind(kind.slice(0, -"List".length)) === undefined) return [root];
    const reader = new ManifestReader(this.#faults);
    const fields = this.#syntax.lenient
      ? new Map([...root.fields].map(([key, field]) => [key, field.value]))
      : reader.map(root, ["apiVersion", "kind", "metadata", "items"]);
    const items = fields?.get("items");
    if (items === undefined) reader.invalid(root, `${kind} has no list of items`);
    return reader.list(items, this.#syntax.limits?.documentsMax ?? DOCUMENTS_MAX) ?? [];
  }

  #readObject(root: ManifestNode, placed: PlacedObject): ReadObject<Value> | undefined {
    // Faults of this object alone: in a lenient syntax unknown fields among them are said, not refused.
    const own = new FaultList();
    const warnings: ManifestWarning[] = [];
    const reader = new ManifestReader(own);
    const warn = ({ line, path }: { line: number; path: string }, detail: string) =>
      void warnings.push({ line, path, detail });
    const value = this.#decode(root, { ...placed, reader, warn });
    let refused = own.omitted > 0;
    for (const fault of own.faults) {
      if (this.#syntax.lenient && (fault.code === "unknown-field" || fault.code === "unsupported")) {
        warn(fault, fault.detail);
      } else {
        refused = true;
        this.#faults.add(fault.code, fault, fault.detail);
      }
    }
    this.#faults.omit(own.omitted);
    return value === undefined || refused ? undefined : { ...placed, value, warnings };
  }

  #decode(
    root: ManifestNode,
    context: PlacedObject & Pick<ManifestObject, "reader" | "warn">,
  ): Value | undefined {
    const { reader, warn } = context, { kinds, skip, decode } = this.#syntax;
    const metadata = root.fields.get("metadata")?.value;
    const kind = this.#readKind(reader, root);
    if (kind === undefined) return undefined;
    if (!kinds.includes(kind as Kind)) {
      const place = root.fields.get("kind")!.value;
      const similar = skip ? undefined : nearest(kind, kinds);
      const wanted = similar ? `did you mean ${similar}?` : `want ${kinds.join(", ")}`;
      if (!skip) return reader.invalid(place, `${this.#syntax.unknownKind(describe(place))}, ${wanted}`);
      warn(place, `${this.#syntax.unknownKind(kind)}, ${wanted}`);
      return skip({ kind, name: String(metadata?.fields.get("name")?.value.scalar ?? "?") });
    }
    const entry = findKind(kind)!;
    readVersion(reader, root, kind, entry);
    const fields = metadata && reader.map(metadata, METADATA_FIELDS);
    const name = readName(reader, fields?.get("name"), metadata ?? root, entry);
    const namespace = this.#readNamespace(reader, fields?.get("namespace"), kind, entry);
    const objectName = manifestObjectName(kind as Kind, namespace, name ?? "");
    const value = decode({
      ...context,
      kind: kind as Kind,
      name: name ?? "",
      namespace,
      objectName,
      root,
      metadata,
    });
    if (value === undefined || name === undefined || hasFault(reader, this.#syntax.lenient)) return undefined;
    const earlier = this.#seen.get(objectName);
    if (earlier !== undefined) {
      return reader.invalid(root, `${objectName} is already defined at line ${earlier}`);
    }
    this.#seen.set(objectName, root.line);
    return value;
  }

  #readKind(reader: ManifestReader, root: ManifestNode): string | undefined {
    const { kinds } = this.#syntax;
    if (root.kind !== "map") return reader.invalid(root, `${describe(root)}, want an object with a kind`);
    const node = root.fields.get("kind")?.value;
    if (node === undefined) return reader.invalid(root, `kind is missing, want ${kinds.join(", ")}`);
    if (typeof node.scalar === "string") return node.scalar;
    return reader.invalid(node, `${this.#syntax.unknownKind(describe(node))}, want ${kinds.join(", ")}`);
  }

  #readNamespace(
    reader: ManifestReader,
    node: ManifestNode | undefined,
    kind: string,
    { clusterwide }: ManifestKind,
  ): string {
    const otherwise = clusterwide ? "" : this.#options.namespace ?? "default";
    if (node === undefined) return otherwise;
    if (clusterwide) {
      reader.unsupported(node, "namespace", `not for a ${kind}, which has none`);
      return otherwise;
    }
    const namespace = reader.string(node, 63);
    if (namespace !== undefined && !SHORT_NAME.test(namespace)) {
      reader.invalid(
        node,
        `${JSON.stringify(namespace)} is no namespace, want lower case letters, digits and -`,
      );
    }
    return namespace ?? otherwise;
  }
}

function readVersion(
  reader: ManifestReader,
  root: ManifestNode,
  kind: string,
  { versions }: ManifestKind,
): void {
  const node = root.fields.get("apiVersion")?.value;
  const wanted = versions.join(" or ");
  if (node === undefined || node.kind === "null") {
    reader.invalid(root, `apiVersion is missing, want ${wanted}`);
  } else if (!versions.includes(String(node.scalar))) {
    reader.invalid(node, `${kind} has apiVersion ${describe(node)}, want ${wanted}`);
  }
}

function readName(
  reader: ManifestReader,
  node: ManifestNode | undefined,
  parent: Place,
  { shortNames }: ManifestKind,
): string | undefined {
  if (!node) return reader.invalid(parent, "metadata.name is missing");
  const name = reader.string(node, 253);
  if (name === undefined || (shortNames ? SHORT_NAME : OBJECT_NAME).test(name)) return name;
  return reader.invalid(
    node,
    `${JSON.stringify(name)} is no object name, want lower case letters, digits${
      shortNames ? " and -" : ", - and ."
    }`,
  );
}

function hasFault({ faults }: ManifestReader, lenient = false): boolean {
  return faults.omitted > 0 ||
    faults.faults.some(({ code }) => !lenient || (code !== "unknown-field" && code !== "unsupported"));
}
