/**
 * Rendezvous hashing (Thaler, Ravishankar, "Using name-based mappings to increase hit rates", 1998): every key ranks
 * every choice, and takes the one with the highest rank. When a choice goes, only its own keys move.
 */

/** FNV-1a of a choice's name, for {@link rank}. */
export function seedOf(name: string): number {
  let bits = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) bits = Math.imul(bits ^ name.charCodeAt(i), 0x01000193);
  return bits >>> 0;
}

/**
 * How high the choice with that seed stands with the key in words `from` to `end`: 0 to 2³² - 1. Each word goes
 * through the finalizer of MurmurHash3, without which similar addresses stay close.
 */
export function rank(seed: number, words: Uint32Array, from: number, end: number): number {
  let bits = seed;
  for (let i = from; i < end; i++) {
    bits ^= words[i]!;
    bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
    bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
    bits ^= bits >>> 16;
  }
  return bits >>> 0;
}
