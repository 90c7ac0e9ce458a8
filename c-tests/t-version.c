/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Version, features and names: what the header says and what the library says is one. */
#include "harness.h"

int main(void)
{
	static const char *const names[] = {"ERROR",    "STOP",        "RUNNING",  "STOP_COPY",
					    "RESUMING", "RUNNING_P2P", "PRE_COPY", "PRE_COPY_P2P"};
#define PHASE(name) [VFIOMIG_PHASE_##name] = #name
	static const char *const phases[64] = {
		PHASE(IDLE),           PHASE(SAVE_TRACKING),  PHASE(SAVE_PRE_COPY), PHASE(SAVE_VIOMMU_GRACE),
		PHASE(SAVE_P2P_GRACE), PHASE(SAVE_STOP_COPY), PHASE(SAVE_HALTED),   PHASE(LOAD_RESUMING),
		PHASE(LOAD_LOADED),    PHASE(LOAD_P2P_GRACE), PHASE(LOAD_RUNNING),  PHASE(FAILED)};

	t_begin();
	CHECK_EQ(vfiomig_version(), VFIOMIG_VERSION_MAJOR << 16 | VFIOMIG_VERSION_MINOR << 8 | VFIOMIG_VERSION_PATCH);
	CHECK(VFIOMIG_CHECK_VERSION(VFIOMIG_VERSION_MAJOR, VFIOMIG_VERSION_MINOR, VFIOMIG_VERSION_PATCH));
	CHECK(!VFIOMIG_CHECK_VERSION(VFIOMIG_VERSION_MAJOR, VFIOMIG_VERSION_MINOR, VFIOMIG_VERSION_PATCH + 1));
	CHECK(!VFIOMIG_CHECK_VERSION(VFIOMIG_VERSION_MAJOR + 1, 0, 0));

	for (uint64_t feature = VFIOMIG_FEATURE_TRANSPORT_KERNEL; feature <= VFIOMIG_FEATURE_WIRE; feature++)
		CHECK_EQ(vfiomig_has_feature(feature), 1);
	CHECK_EQ(vfiomig_has_feature(VFIOMIG_FEATURE_WIRE + 1), 0);
	CHECK_EQ(vfiomig_has_feature(0), 0);
	CHECK_EQ(vfiomig_has_feature(1000), 0);
	CHECK_EQ(vfiomig_has_feature(UINT64_MAX), 0);

	for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
		CHECK(!strcmp(vfiomig_state_name(i), names[i]));
	CHECK(!strcmp(vfiomig_state_name(8), "?"));
	CHECK(!strcmp(vfiomig_state_name(UINT32_MAX), "?"));
	CHECK_EQ(VFIOMIG_STATE_PRE_COPY_P2P, 7);

	/* A phase that has a name and is not in the table fails here, too. */
	for (uint32_t i = 0; i < sizeof phases / sizeof *phases; i++)
		CHECK(!strcmp(vfiomig_phase_name(i), phases[i] ? phases[i] : "?"));
	CHECK(!strcmp(vfiomig_phase_name(UINT32_MAX), "?"));
	return t_end();
}
