/** google.protobuf.FieldMask over plain objects: what a reader does not ask for is not sent. @module */
import protobuf from "protobufjs/light";
import { typeOf } from "./root.ts";

/** Takes out of a message what a mask does not name. */
export type FieldMasker<T> = (value: T) => Partial<T>;

interface Node {
  /** Undefined: the whole field. */
  readonly below: Map<string, Node> | undefined;
}

/** Longest mask that is read. */
export const MASK_PATHS_MAX = 512;

/**
 * Compiles a mask for the message `name`. A path names a field of it, or one within a message field: `source.labels`.
 * @throws {RangeError} a path that names nothing, or too many of them
 */
export function compileFieldMask<T>(name: string, paths: readonly string[]): FieldMasker<T> {
  if (paths.length > MASK_PATHS_MAX) {
    throw new RangeError(`a mask of ${paths.length} paths is too long: at most ${MASK_PATHS_MAX}`);
  }
  const tree = new Map<string, Node>();
  for (const path of paths) {
    let type: protobuf.Type | undefined = typeOf(name);
    let at = tree;
    const names = path.split(".");
    for (const [depth, field] of names.entries()) {
      const found: protobuf.Field | undefined = type && Object.hasOwn(type.fields, field)
        ? type.fields[field]
        : undefined;
      if (found === undefined) throw new RangeError(`there is no field ${path} in ${name}`);
      found.resolve();
      const isLast = depth === names.length - 1;
      if (!isLast && (found.repeated || found.map)) {
        throw new RangeError(`${path} of ${name} names a part of a list: name the list`);
      }
      type = found.resolvedType instanceof protobuf.Type ? found.resolvedType : undefined;
      const held = at.get(field);
      if (held !== undefined && held.below === undefined) break; // the whole field is named already
      if (isLast) at.set(field, { below: undefined });
      else {
        const next: Node = held ?? { below: new Map() };
        at.set(field, next);
        at = next.below!;
      }
    }
  }
  return (value) => pick(value as Record<string, unknown>, tree) as Partial<T>;
}

function pick(value: Record<string, unknown>, tree: Map<string, Node>): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [field, { below }] of tree) {
    const held = value[field];
    if (held === undefined) continue;
    out[field] = below === undefined ? held : pick(held as Record<string, unknown>, below);
  }
  return out;
}
