return { whole(sweep()) }
