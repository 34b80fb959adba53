/**
 * Messages by their full names. A package is made when the first of its messages is asked for, with the packages that it refers to:
 * all of them at once cost a command more time than everything else that it does.
 *
 * @module
 */
import protobuf from "protobufjs/light";
import { packages } from "./gen/root.ts";

const root = new protobuf.Root();
const made = new Set<string>();

/** What has this name: a message, an enumeration, a package; null where there is none. */
export function lookUp(name: string): protobuf.ReflectionObject | null {
  const own = packageOf(name);
  if (own !== undefined) make(own);
  return root.lookup(name);
}

/** The message of this name. @throws {Error} where there is none */
export function typeOf(name: string): protobuf.Type {
  const own = packageOf(name);
  if (own !== undefined) make(own);
  return root.lookupType(name);
}

function packageOf(name: string): string | undefined {
  for (let own = name; own !== ""; own = own.slice(0, Math.max(0, own.lastIndexOf(".")))) {
    if (Object.hasOwn(packages, own)) return own;
  }
  return undefined;
}

function make(name: string): void {
  if (made.has(name)) return;
  made.add(name);
  const { needs, nested } = packages[name];
  root.define(name, nested() as Record<string, protobuf.AnyNestedObject>);
  for (const one of needs) make(one);
}
