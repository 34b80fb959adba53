/**
 * What a runtime says of the container, by the variables of CNI. Pure.
 * @module
 */
import type { CniRequest } from "@weir/proto/endpoint";
import { CniError } from "./cni_error.ts";

/** One interface of one container. */
export interface Attachment {
  readonly containerId: string;
  /** Path of its network namespace; "" where it is gone already. */
  readonly netns: string;
  /** Name of the device inside. */
  readonly ifname: string;
  /** CNI_ARGS. */
  readonly args: ReadonlyMap<string, string>;
}

/** A pod as the runtime names it. */
export interface PodReference {
  readonly namespace: string;
  readonly pod: string;
  /** "": an older runtime does not say. */
  readonly uid: string;
}

const CONTAINER_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$/;
/** At most 15 bytes, no slash, colon or white space. */
const IFNAME = /^(?!\.{1,2}$)[^\s/:]{1,15}$/;

/** @param needsNetns whether the command is one that works inside @throws {CniError} code 4 */
export function readAttachment(request: CniRequest, needsNetns: boolean): Attachment {
  const { containerId, netns, ifname, args } = request;
  const refuse = (name: string, found: string, expected: string) => {
    throw new CniError(
      "INVALID_ENVIRONMENT",
      `Cannot take ${name}: found ${JSON.stringify(found.slice(0, 80))}, expected ${expected}`,
    );
  };
  if (!CONTAINER_ID.test(containerId)) {
    refuse("CNI_CONTAINERID", containerId, "letters, digits, _ . and -, at most 200");
  }
  if (!IFNAME.test(ifname)) refuse("CNI_IFNAME", ifname, "a device name of 1 to 15 bytes");
  if (needsNetns && !netns.startsWith("/")) refuse("CNI_NETNS", netns, "the path of a network namespace");
  return { containerId, netns, ifname, args: readArguments(args) };
}

/** "A=1;B=2", as CNI_ARGS has it; what has no "=" says nothing. */
function readArguments(text: string): Map<string, string> {
  const pairs = text.split(";").map((pair) => [pair, pair.indexOf("=")] as const).filter(([, at]) => at > 0);
  return new Map(pairs.map(([pair, at]) => [pair.slice(0, at), pair.slice(at + 1)]));
}

/** The pod of Kubernetes that it is; undefined: the runtime names none. */
export function podOf({ args }: Attachment): PodReference | undefined {
  const namespace = args.get("K8S_POD_NAMESPACE") ?? "", pod = args.get("K8S_POD_NAME") ?? "";
  return namespace === "" || pod === "" ? undefined : { namespace, pod, uid: args.get("K8S_POD_UID") ?? "" };
}
