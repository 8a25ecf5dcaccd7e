/** The functions of cshim/socketbox.h, by name, as bun:ffi wants to know them; a test holds the two lists equal. */
import { FFIType } from "bun:ffi";

const { i32, u16, u32, u64, ptr } = FFIType;
const number = FFIType.i32;

export const symbols = {
  sb_sizeof: { args: [i32], returns: number },
  sb_flow_of: { args: [i32, ptr], returns: number },
  sb_socket_kind: { args: [i32, ptr], returns: number },
  sb_unix_name: { args: [i32, ptr], returns: number },
  sb_peer: { args: [i32, ptr], returns: number },

  sb_bind_inet: { args: [ptr, u32, u16, u32, ptr, ptr], returns: number },
  sb_listen: { args: [i32, i32], returns: number },
  sb_refuse_new: { args: [i32], returns: number },
  sb_admit_new: { args: [i32], returns: number },
  sb_bind_unix: { args: [ptr, i32, u32], returns: number },
  sb_own_unix: { args: [ptr, u32, u32, u32], returns: number },
  sb_unbind_unix: { args: [ptr, u64, u64], returns: number },
  sb_connect_unix: { args: [ptr, i32], returns: number },
  sb_inode: { args: [ptr, ptr], returns: number },

  sb_accept: { args: [i32, ptr, i32, i32], returns: number },
  sb_clear_transparent: { args: [i32], returns: number },

  sb_send_fds: { args: [i32, ptr, i32, ptr, i32], returns: number },
  sb_want_senders: { args: [i32], returns: number },
  sb_receive_fds: { args: [i32, ptr, i32, i32, u32, ptr], returns: number },
  sb_receive_message: { args: [i32, ptr, i32, ptr], returns: number },

  sb_epoll_create: { args: [], returns: number },
  sb_epoll_ctl: { args: [i32, i32, i32, u32, u32], returns: number },
  sb_epoll_wait: { args: [i32, ptr, i32, i32], returns: number },
  sb_monotonic: { args: [ptr], returns: number },
  sb_eventfd: { args: [], returns: number },
  sb_eventfd_add: { args: [i32], returns: number },
  sb_eventfd_take: { args: [i32], returns: number },
  sb_timer: { args: [], returns: number },
  sb_timer_set: { args: [i32, i32], returns: number },
  sb_wake_patiently: { args: [i32], returns: number },

  sb_close: { args: [i32], returns: number },
  sb_reset: { args: [i32], returns: number },
  sb_close_reset: { args: [ptr, i32], returns: number },
  sb_duplicate: { args: [i32], returns: number },
  sb_redirect: { args: [i32, i32], returns: number },
  sb_read: { args: [i32, ptr, i32], returns: number },
  sb_peek: { args: [i32, ptr, i32], returns: number },
  sb_write: { args: [i32, ptr, i32], returns: number },
  sb_wait_writable: { args: [i32, i32], returns: number },
  sb_set_inheritable: { args: [i32, i32], returns: number },
  sb_set_nonblocking: { args: [i32, i32], returns: number },
  sb_shutdown: { args: [i32, i32], returns: number },
  sb_raise_nofile: { args: [], returns: number },

  sb_lookup_user: { args: [ptr, ptr], returns: number },
  sb_lookup_group: { args: [ptr, ptr], returns: number },
  sb_has_capabilities: { args: [], returns: number },
  sb_assume_identity: { args: [ptr, ptr], returns: number },

  sb_spawn: { args: [ptr, ptr, i32, ptr, i32, ptr, ptr], returns: number },
  sb_exec: { args: [ptr, ptr, i32, ptr, i32, ptr], returns: number },
  sb_wait: { args: [i32, ptr], returns: number },

  sb_connect_inet: { args: [ptr, u32, u16, ptr, i32, i32], returns: number },
  sb_connect_result: { args: [i32], returns: number },
  sb_netns_sockets: { args: [ptr], returns: number },
  sb_interface_index: { args: [ptr], returns: number },
  sb_resolve: { args: [ptr, i32, u32, i32], returns: number },

  sb_pipe: { args: [ptr, i32], returns: number },
  sb_pipes_close: { args: [ptr], returns: number },

  sb_relay_open: { args: [i32, ptr, i32, i32, i32], returns: number },
  sb_relay_join: { args: [i32, ptr, i32, i32, i32], returns: number },
  sb_relay_leave: { args: [ptr, i32], returns: number },
  sb_relay_wait: { args: [i32, ptr, ptr, ptr, i32, ptr], returns: number },
  sb_relay_move: { args: [i32, ptr, i32, ptr, i32], returns: number },
  sb_relay_close: { args: [i32, ptr, i32, ptr, i32, i32], returns: number },

  sb_signal_fd: { args: [u64], returns: number },

  sb_decide_bind: { args: [ptr, i32, ptr, i32, u32, u16, ptr], returns: number },
  sb_has_file_capabilities: { args: [ptr], returns: number },
  sb_can_map: { args: [ptr], returns: number },
  sb_refuse_io_uring: { args: [], returns: number },
} as const;
