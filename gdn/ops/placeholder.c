typedef int gdncp_placeholder_t;
