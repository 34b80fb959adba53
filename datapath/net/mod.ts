/** @weir/net: devices, addresses, routes and namespaces by rtnetlink. See README.md. @module */
export * from "./address.ts";
export * from "./datagram.ts";
export * from "./errors.ts";
export * from "./link.ts";
export { listLocalAddresses, type LocalAddress, LocalWatcher } from "./local.ts";
export { NetlinkFamily, NetlinkSocket } from "./netlink.ts";
export * from "./netns.ts";
export * from "./route.ts";
export * from "./sock_diag.ts";
export * from "./socket_state.ts";
export * from "./sysctl.ts";
