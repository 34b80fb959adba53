/** Which addresses may have an identity by their names. Pure. @module */
import { identityOfMany, IpAddress, Prefix } from "@weir/common";

/** `::ffff:0:0/96`: IPv4 in the clothes of IPv6; sockets that connect to it speak IPv4. */
const MAPPED = Prefix.parse("::ffff:0:0/96");
/** What the programs judge by the bits alone, or what is no machine's: the ipcache is not asked for these. */
const OWN_KINDS = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::/127", "fe80::/10"]
  .map((text) => Prefix.parse(text));

/**
 * The canonical text of an address of a name. Undefined: no identity by a name is asked for it (groups, everybody, loopback, link-local).
 * @throws {AddressError} where it is none
 */
export function addressOfName(text: string): string | undefined {
  let address = IpAddress.parse(text);
  if (MAPPED.contains(address)) address = IpAddress.fromBytes(address.bytes.slice(12));
  if (identityOfMany(address) !== undefined || OWN_KINDS.some((kind) => kind.contains(address))) {
    return undefined;
  }
  return address.text;
}
