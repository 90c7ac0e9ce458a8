/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Version, features and names: what the header says and what the library says is one. */
#include "harness.h"

int main(void)
{
	static const char *const names[] = {"ERROR",    "STOP",        "RUNNING",  "STOP_COPY",
					    "RESUMING", "RUNNING_P2P", "PRE_COPY", "PRE_COPY_P2P"};

	t_begin();
	CHECK_EQ(vfiomig_version(), VFIOMIG_VERSION_MAJOR << 16 | VFIOMIG_VERSION_MINOR << 8 | VFIOMIG_VERSION_PATCH);
	CHECK(VFIOMIG_CHECK_VERSION(VFIOMIG_VERSION_MAJOR, VFIOMIG_VERSION_MINOR, VFIOMIG_VERSION_PATCH));
	CHECK(!VFIOMIG_CHECK_VERSION(VFIOMIG_VERSION_MAJOR, VFIOMIG_VERSION_MINOR, VFIOMIG_VERSION_PATCH + 1));
	CHECK(!VFIOMIG_CHECK_VERSION(VFIOMIG_VERSION_MAJOR + 1, 0, 0));

	CHECK_EQ(vfiomig_has_feature(VFIOMIG_FEATURE_TRANSPORT_KERNEL), 1);
	CHECK_EQ(vfiomig_has_feature(VFIOMIG_FEATURE_TRANSPORT_OPS), 1);
	CHECK_EQ(vfiomig_has_feature(VFIOMIG_FEATURE_DIALECT_V2), 1);
	CHECK_EQ(vfiomig_has_feature(0), 0);
	CHECK_EQ(vfiomig_has_feature(1000), 0);
	CHECK_EQ(vfiomig_has_feature(UINT64_MAX), 0);

	for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
		CHECK(!strcmp(vfiomig_state_name(i), names[i]));
	CHECK(!strcmp(vfiomig_state_name(8), "?"));
	CHECK(!strcmp(vfiomig_state_name(UINT32_MAX), "?"));
	CHECK_EQ(VFIOMIG_STATE_PRE_COPY_P2P, 7);
	return t_end();
}
