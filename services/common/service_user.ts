/** As whom unprivileged services run. @module */

/** Users that the unprivileged services may run as, in order of preference. */
const USERS = ["weir", "nobody"];

/** The ids of the first of {@link USERS} that the system has; `passwd` is the text of /etc/passwd. */
export function unprivilegedUser(passwd: string): { uid: number; gid: number } {
  for (const user of USERS) {
    const line = passwd.split("\n").find((line) => line.startsWith(`${user}:`));
    const fields = line?.split(":");
    if (fields !== undefined && Number(fields[2]) > 0) {
      return { uid: Number(fields[2]), gid: Number(fields[3]) };
    }
  }
  throw new Error(`Cannot find a user to run services as: expected ${USERS.join(" or ")} in /etc/passwd`);
}
